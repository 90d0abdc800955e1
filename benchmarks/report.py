"""Put what `l2i bench` measured into docs/benchmarks.md and its pictures.

Usage: python benchmarks/report.py out/bench/bench.json
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from l2i_fast.bench.pictures import save_pictures
from l2i_fast.bench.report import markdown
from l2i_fast.bench.run import Measurements

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- measured -->\n", "<!-- end -->\n"


def fill(measurements: Measurements, docs: Path) -> None:
    """Replace what stands between the two marks of benchmarks.md, and draw the pictures into images/."""
    page = docs / "benchmarks.md"
    pictures = save_pictures(docs / "images", measurements)
    shown = "\n".join(f"![{path.stem}](images/{path.name})\n" for path in pictures)
    text = f"{BEGIN}\n{markdown(measurements)}\n{shown}\n{END}"
    page.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: text, page.read_text(), flags=re.DOTALL))


if __name__ == "__main__":
    fill(Measurements.load(Path(sys.argv[1])), DOCS)
