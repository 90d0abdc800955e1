"""Measurements as JSON, Markdown, pictures, and in docs/benchmarks.md."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from l2i_fast.bench import machine
from l2i_fast.bench.machine import Ceilings
from l2i_fast.bench.measurements import Measurements, Point, Row, Timing
from l2i_fast.bench.pictures import save_pictures
from l2i_fast.bench.report import blas_hint, markdown

ROOT = Path(__file__).parents[2]


@pytest.fixture
def measured():
    ours = [Timing("ours", 0.1, error=1e-7)]
    peers = [Timing("NumPy", 0.2, 2.0, 20, 1e-6), Timing("torchnmf", missing="torchnmf is missing")]
    dims = "513 x 431, K = 3"
    rows = [Row("nmf", "frobenius", "archive", dims, n, 2e9, 1e6, ours, peers, 3e6) for n in (1, 2)]
    points = [Point("stft", axis, value, value * 1e-3, None, "torch") for axis in "TKFB" for value in (3, 9)]
    ceilings = [Ceilings(n, n * 4e10, [3e11, 1e11, 2e10]) for n in (1, 2)]
    return Measurements(machine.describe(), ceilings, rows, points, ["race: x is missing"])


def test_json_holds_everything(measured, tmp_path):
    measured.save(tmp_path / "new" / "bench.json")
    assert Measurements.load(tmp_path / "new" / "bench.json") == measured


def test_markdown_holds_everything(measured):
    text = markdown(measured)
    assert "| nmf frobenius | archive: 513 x 431, K = 3 | 1 | 100 | 50 | 50 % | 20 | 0.0 | 3.0 | 1.0e-07 |" in text
    assert "| nmf frobenius | archive: 513 x 431, K = 3 | 2 | 100 | NumPy | 200 | 2.00 | 20 | 1.0e-06 |" in text
    assert "torchnmf is missing" in text
    assert "race: x is missing" in text
    assert machine.blas() in text


def test_the_page_is_filled_between_its_marks(measured, tmp_path):
    report = runpy.run_path(str(ROOT / "benchmarks" / "report.py"))
    page = tmp_path / "benchmarks.md"
    page.write_text((ROOT / "docs" / "benchmarks.md").read_text())
    pushed = Timing("ours", 1, error=1, percentiles=[1, 2, 3, 4, 5])
    measured.rows.append(Row("stream", "", "clip", "", 1, 1, 1, [pushed]))
    streams = replace(measured, rows=measured.rows[2:], points=[])
    others = replace(measured, rows=measured.rows[:2])
    begin, end = report["BEGIN"].format, report["END"]
    before, after = page.read_text().split(begin("measured"))[0], page.read_text().split(begin("soak"))[1]
    for _ in range(2):
        report["fill"](measured, tmp_path)
        text = page.read_text()
        assert text.startswith(before)
        assert text.endswith(after)
        for name, part in ("measured", others), ("streams", streams):
            assert markdown(part) in text.split(begin(name))[1].split(end)[0]
            assert text.count(markdown(part)) == 1
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [
        "roofline.png",
        "scaling.png",
        "stream.png",
    ]
    report["put"](tmp_path, "soak", "found", [])
    assert page.read_text().count("found") == 1 + text.count("found")


def test_pictures_need_figures(tmp_path):
    assert save_pictures(tmp_path, Measurements()) == []


def test_the_hint_is_for_openblas_with_other_kernels(measured):
    measured.machine |= {"path": "avx512", "blas": "openblas 0.3.30 Zen"}
    assert "OPENBLAS_CORETYPE" in blas_hint(measured)
    measured.machine["blas"] = "openblas 0.3.30 SkylakeX"
    assert blas_hint(measured) is None
