"""The run on a GPU: every case gives the exact answer, and its timings are kept, printed and drawn."""

from __future__ import annotations

import pytest
import torch
from matplotlib.image import imread

from l2i_fast.bench import cases_gpu, gpu
from l2i_fast.bench.cases_gpu import Sizes
from l2i_fast.bench.measurements import Measurements
from l2i_fast.bench.report import markdown, render, save, summary
from l2i_fast.bench.timing import threads

from .helpers import case_of

SMALL = Sizes(n_clips=2, n_samples=3000, n_frames=40, n_streams=4)


@pytest.fixture
def measurements(device, monkeypatch):
    """All cases at a small size; torch alone where Triton would be interpreted, as other tests do."""
    if device.type == "cpu":
        refusal = cases_gpu.refusal
        monkeypatch.setattr(
            cases_gpu, "refusal", lambda name, *call: refusal(name, *call) if name == "torch" else "not here"
        )
    every, reports = Measurements(gpu.describe(device)), []
    with threads(1):
        gpu.run(every, device, False, 0.01, lambda *words: reports.append(words), SMALL)
    assert reports[-1][1] == reports[-1][2] == len(every.rows)
    return every


def test_every_case_is_measured_and_exact(measurements, tmp_path):
    assert measurements.ceilings[0].bandwidths[0] > 0
    tolerance = case_of(lambda: None).tolerance
    for row in measurements.rows:
        assert row.flops > 0
        assert row.bytes > 0
        timings = {one.name: one for one in row.ours}
        assert not timings["torch"].missing, (row.name, timings["torch"].missing)
        for one in row.timings:
            if not one.missing:
                assert one.seconds > 0
                assert one.error < tolerance
    data, picture = save(measurements, tmp_path)
    assert (data, picture) == (tmp_path / "gpu.json", tmp_path / "gpu.png")
    assert Measurements.load(data) == measurements
    assert imread(picture).shape[2] == 4
    (table,) = render(measurements)
    assert table.row_count == sum(len(row.timings) for row in measurements.rows)
    assert all(line in markdown(measurements) for line in summary(measurements))


def test_a_failing_contestant_has_a_reason_instead_of_a_time(device):
    exact = torch.ones(3, device=device)
    case = case_of(lambda: lambda: exact)

    def measure(prepare):
        return gpu.measure(case, "torch", prepare, exact, device, 0.0)

    wrong = measure(lambda: lambda: exact * 1.001)
    assert "differs from the exact answer by 1.0e-03" in wrong.missing
    assert not wrong.seconds

    absent = measure(lambda: cases_gpu.function("torch", "resample", device))
    assert absent.missing == "it has no resample"

    def broken():
        raise RuntimeError("no such\nkernel")

    assert measure(broken).missing == "RuntimeError: no such kernel"
