"""Put what `l2i bench` and benchmarks/stream_soak.py measured into docs/benchmarks.md and its pictures.

Usage: python benchmarks/report.py [out/bench/bench.json] [out/soak/soak.json]
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

from l2i_fast.bench import soak
from l2i_fast.bench.pictures import save_pictures
from l2i_fast.bench.report import markdown
from l2i_fast.bench.run import Measurements

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- {} -->\n", "<!-- end -->\n"


def fill(measurements: Measurements, docs: Path) -> None:
    """Put in tables and pictures, those of streams at their own place; what was not measured stays as it is."""
    streams = [row for row in measurements.rows if row.percentiles]
    others = [row for row in measurements.rows if not row.percentiles]
    for name, rows, points in ("measured", others, measurements.points), ("streams", streams, []):
        if rows or points:
            part = replace(measurements, rows=rows, points=points)
            put(docs, name, markdown(part), save_pictures(docs / "images", part))


def put(docs: Path, name: str, text: str, pictures: list[Path]) -> None:
    """Replace what stands between two marks of benchmarks.md."""
    page, begin = docs / "benchmarks.md", BEGIN.format(name)
    shown = "\n".join(f"![{path.stem}](images/{path.name})\n" for path in pictures)
    text = f"{begin}\n{text}\n{shown}\n{END}"
    page.write_text(re.sub(f"{begin}.*?{END}", lambda _: text, page.read_text(), flags=re.DOTALL))


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        if "rows" in json.loads(path.read_text()):
            fill(Measurements.load(path), DOCS)
        else:
            found = soak.Soak.load(path)
            put(DOCS, "soak", soak.markdown(found), soak.save_picture(DOCS / "images", found))
