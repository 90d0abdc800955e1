"""`l2i bench`: its output, its files, and missing packages."""

from __future__ import annotations

import json
import sys
from typing import get_args

import pytest
import torch
from matplotlib.image import imread

from l2i_fast.bench import cases_cpu, cpu, names, scaling
from l2i_fast.bench.cases_cpu import OPERATIONS
from l2i_fast.bench.measurements import Measurements
from l2i_fast.bench.problem import SIZES

from .helpers import bench


def test_measurements_are_printed_and_kept(quick, tmp_path):
    done = bench("--operation", "stft", "--operation", "nmf", "--size", "clip", "--size", "archive",
                 "--threads", 1, "--threads", 2, "--seconds", 0, "-o", tmp_path)  # fmt: skip
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "bench.json").read_text())
    rows = [(row["operation"], row["variant"], row["size"], row["threads"]) for row in written["rows"]]
    losses = "frobenius", "kullback-leibler", "itakura-saito"
    assert rows == [("stft", "", "clip", n) for n in (1, 2)] + [
        ("nmf", loss, "archive", n) for loss in losses for n in (1, 2)
    ]
    for row in written["rows"]:
        (ours,) = row["ours"]
        assert ours["seconds"] > 0
        assert 0 < ours["error"] < 1e-5
        assert len(row["peers"]) == (2 if row["threads"] == 2 else 3 if row["operation"] == "stft" else 4)
        assert all(peer["pairs"] >= 5 for peer in row["peers"] if not peer["missing"])
    assert imread(tmp_path / "roofline.png").shape[2] == 4
    assert not (tmp_path / "scaling.png").exists()
    for word in ("stft", "nmf", "frobenius", "torch", "scikit-learn", "BLAS", str(tmp_path)):
        assert word in done.stdout
    assert "stft, clip" in done.stderr


def test_without_peers(quick, tmp_path):
    done = bench("--operation", "istft", "--size", "clip", "--threads", 1, "--no-peers", "-o", tmp_path)
    assert done.exit_code == 0, done.output
    (row,) = Measurements.load(tmp_path / "bench.json").rows
    assert row.ours[0].seconds > 0
    assert row.peers == []


def test_streams_are_measured_push_by_push(quick, tmp_path):
    done = bench("--operation", "stream", "--threads", 1, "--threads", 2, "--seconds", 0, "-o", tmp_path)
    assert done.exit_code == 0, done.output
    rows = Measurements.load(tmp_path / "bench.json").rows
    assert [(row.dims.split(",")[0], row.variant) for row in rows] == [
        (f"{n_fft} / {hop}", variant)
        for n_fft, hop in cases_cpu.FRAMES
        for variant in ("given activations", "10 updates")
    ]
    for row in rows:
        assert row.threads == 1
        assert 0 < row.ours[0].error < 1e-5
        for one in row.timings:
            assert one.percentiles == sorted(one.percentiles)
            assert one.percentiles[0] > 0
    assert "Every push of a stream" in done.stdout
    assert imread(tmp_path / "stream.png").shape[2] == 4
    assert not (tmp_path / "roofline.png").exists()


def test_scaling_is_measured_and_drawn(quick, tmp_path, monkeypatch):
    axes = {axis: dict(list(problems.items())[:2]) for axis, problems in scaling.AXES.items()}
    monkeypatch.setattr(scaling, "AXES", axes)
    done = bench("--operation", "scaling", "--threads", 1, "--seconds", 0, "-o", tmp_path)
    assert done.exit_code == 0, done.output
    points = Measurements.load(tmp_path / "bench.json").points
    assert {(p.axis, p.value) for p in points} == {(axis, value) for axis, some in axes.items() for value in some}
    assert {p.operation for p in points if p.axis == "K"} == {"decode", "nmf kullback-leibler"}
    assert all(p.ours > 0 and p.peer > 0 for p in points)
    assert imread(tmp_path / "scaling.png").shape[2] == 4
    assert not (tmp_path / "roofline.png").exists()


def test_missing_peers_are_named(quick, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "librosa", None)
    done = bench("--operation", "stft", "--size", "clip", "--threads", 1, "--seconds", 0, "-o", tmp_path)
    assert done.exit_code == 0, done.output
    assert "librosa: librosa is missing" in " ".join(done.stdout.replace("│", " ").split())
    (row,) = Measurements.load(tmp_path / "bench.json").rows
    assert [peer.missing for peer in row.peers] == ["", "", "librosa is missing"]


def test_an_operation_is_left_out_if_it_needs_a_missing_package(quick, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    done = bench("--operation", "race", "--operation", "stft", "--size", "clip", "--threads", 1,
                 "--seconds", 0, "-o", tmp_path)  # fmt: skip
    assert done.exit_code == 0, done.output
    measurements = Measurements.load(tmp_path / "bench.json")
    assert measurements.left_out == ["race, clip: sklearn.decomposition is missing"]
    assert measurements.left_out[0] in done.stdout
    assert [row.operation for row in measurements.rows] == ["stft"]


def test_an_interrupted_run_keeps_its_rows(quick, tmp_path, monkeypatch):
    measure, done_before = cpu.measure, []

    def interrupted(*arguments):
        if done_before:
            raise KeyboardInterrupt
        done_before.append(arguments)
        return measure(*arguments)

    monkeypatch.setattr(cpu, "measure", interrupted)
    done = bench("--operation", "stft", "--operation", "istft", "--threads", 1, "--seconds", 0, "-o", tmp_path)
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == "l2i: interrupted; what was measured is kept"
    assert [row.operation for row in Measurements.load(tmp_path / "bench.json").rows] == ["stft"]
    assert (tmp_path / "roofline.png").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--operation", "fft"), ("--size", "year"), ("--threads", "0"), ("--threads", "two"), ("--seconds", "-1")],
)
def test_bad_options(option, value, tmp_path):
    done = bench(option, value, "-o", tmp_path / "out")
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("l2i: error: ")
    assert option in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "every"), [("--operation", [*OPERATIONS, "scaling"]), ("--size", list(SIZES))], ids=["operation", "size"]
)
def test_the_command_offers_every_operation_and_size(option, every):
    (line,) = bench(option, "unknown").stderr.splitlines()
    assert line.split(" must be one of ")[1].split(" (see ")[0].split(", ") == every
    assert list(get_args({"--operation": names.Operation, "--size": names.Size}[option])) == every


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is present")
def test_without_a_gpu_the_command_fails(tmp_path):
    done = bench("--device", "cuda", "--output", tmp_path)
    assert done.exit_code == 1
    assert "device is 'cuda', but torch" in done.stderr
    assert not list(tmp_path.iterdir())
