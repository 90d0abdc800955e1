"""Put the figures of `l2i bench` and benchmarks/stream_soak.py into docs/benchmarks.md and its pictures.

Usage: python benchmarks/report.py [out/bench/bench.json] [out/soak/soak.json]
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

from l2i_fast.bench.measurements import Measurements
from l2i_fast.bench.pictures import save_pictures
from l2i_fast.bench.report import markdown

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- {} -->\n", "<!-- end -->\n"


def fill(measurements: Measurements, docs: Path) -> None:
    """Put in tables and pictures, those of streams in a place of their own; parts without figures stay."""
    streams = [row for row in measurements.rows if row.is_stream]
    others = [row for row in measurements.rows if not row.is_stream]
    for name, rows, points in ("measured", others, measurements.points), ("streams", streams, []):
        if rows or points:
            part = replace(measurements, rows=rows, points=points)
            put(docs, name, markdown(part), save_pictures(docs / "images", part))


def put(docs: Path, name: str, text: str, pictures: list[Path]) -> None:
    """Replace the text between two marks of benchmarks.md."""
    page, begin = docs / "benchmarks.md", BEGIN.format(name)
    images = "\n".join(f"![{path.stem}](images/{path.name})\n" for path in pictures)
    text = f"{begin}\n{text}\n{images}\n{END}"
    page.write_text(re.sub(f"{begin}.*?{END}", lambda _: text, page.read_text(), flags=re.DOTALL))


if __name__ == "__main__":
    import stream_soak

    for path in map(Path, sys.argv[1:]):
        if "rows" in json.loads(path.read_text()):
            fill(Measurements.load(path), DOCS)
        else:
            soak = stream_soak.Soak.load(path)
            put(DOCS, "soak", stream_soak.markdown(soak), stream_soak.save_picture(DOCS / "images", soak))
