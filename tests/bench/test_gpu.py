"""`l2i bench --device`: every case gives the exact answer, and what was measured is kept and drawn."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from l2i_fast import cli
from l2i_fast.bench import gpu
from l2i_fast.bench.gpu import DeviceMeasurements, Sizes
from l2i_fast.bench.pictures import device_roofline
from l2i_fast.backends import dispatch as backend

SMALL = Sizes(n_clips=2, n_samples=3000, n_frames=40, n_streams=4)


def measured(device, monkeypatch, **settings):
    """All cases at a small size; torch alone where Triton would be interpreted, which other tests do."""
    if device.type == "cpu":
        monkeypatch.setattr(backend, "missing", lambda name, _: "" if name == "torch" else "not here")
    measurements = DeviceMeasurements(gpu.describe(device))
    told = []
    gpu.run(measurements, device, lambda *words: told.append(words), 0.01, SMALL, **settings)
    assert told[-1][1] == told[-1][2] == len(measurements.rows)
    return measurements


def test_every_case_is_measured_and_exact(device, monkeypatch, tmp_path):
    measurements = measured(device, monkeypatch, compiled=False)
    assert measurements.copy > 0
    for row in measurements.rows:
        assert row.flops > 0
        assert row.bytes > 0
        times = {one.backend: one for one in row.times}
        assert not times["torch"].missing, (row.name, times["torch"].missing)
        for one in row.times:
            if not one.missing:
                assert one.seconds > 0
                assert one.error < gpu.TOLERANCE
    measurements.save(tmp_path / "gpu.json")
    assert DeviceMeasurements.load(tmp_path / "gpu.json") == measurements
    table = gpu.render(measurements)
    assert table.row_count == sum(len(row.times) for row in measurements.rows)
    device_roofline(measurements).savefig(tmp_path / "gpu.png")


def test_a_wrong_answer_is_no_time(device):
    exact = torch.ones(3, device=device)
    one = gpu._time("torch", lambda: lambda: exact * 1.001, exact, device, 0.0)
    assert "differs from the exact answer by 1.0e-03" in one.missing
    assert not one.seconds

    absent = gpu._time("torch", lambda: gpu._function("torch", "resample"), exact, device, 0.0)
    assert absent.missing == "it has no resample"

    def broken():
        raise RuntimeError("no such\nkernel")

    assert gpu._time("torch", broken, exact, device, 0.0).missing == "RuntimeError: no such kernel"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_command_says_so(tmp_path):
    result = CliRunner().invoke(cli.app, ["bench", "--device", "cuda", "--output", str(tmp_path)])
    assert result.exit_code == 1
    assert "device is 'cuda', but torch" in result.stderr
    assert not list(tmp_path.iterdir())
