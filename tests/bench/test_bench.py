"""`l2i bench`: the cases are right, what is measured is told and kept, and what is missing is named."""

from __future__ import annotations

import json
import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

import l2i_fast as l2i
from l2i_fast import _core, cli
from l2i_fast.bench import cases, hops, machine, memory, peers_nmf, problem, run, scaling, soak, timing
from l2i_fast.bench.cases import OPERATIONS, Case
from l2i_fast.bench.machine import ARRAYS, Ceilings
from l2i_fast.bench.pictures import save_pictures
from l2i_fast.bench.problem import CLIP, SIZES, Problem
from l2i_fast.bench.report import blas_hint, markdown
from l2i_fast.bench.run import Measurements
from l2i_fast.bench.scaling import Point
from l2i_fast.bench.timing import Rival, Row

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small(monkeypatch):
    """Every size has a few clips only, and a race is short."""
    monkeypatch.setattr(problem, "SIZES", {"clip": 1, "batch": 2, "archive": 2, "hour": 3})
    monkeypatch.setattr(cases, "N_TARGET", 5)
    monkeypatch.setattr(cases, "RACE_CLIPS", 1)


@pytest.fixture
def quick(small, monkeypatch):
    """Ceilings and memory are not looked at, either."""
    monkeypatch.setattr(run, "measure_ceilings", lambda n: Ceilings(n, 1e11, [1e11, 1e10, 1e9]))
    monkeypatch.setattr(run, "extra_memory", lambda operation, size, n: [])


def bench(*arguments):
    return CliRunner().invoke(cli.app, ["bench", *map(str, arguments)])


def case_of(ours, **values):
    given = {"operation": "stft", "size": "clip", "dims": "", "flops": 1.0, "bytes": 1.0, "exact": ours()}
    return Case(**given | {"ours": ours, **values})


# ---- the cases


@pytest.mark.parametrize(
    ("operation", "size"), [(name, size) for name, (_, sizes) in OPERATIONS.items() for size in sizes]
)
def test_ours_and_the_peers_give_the_exact_answer(operation, size, small):
    found = list(cases.cases(operation, size))
    assert found
    for case in found:
        assert case.flops > 0
        assert case.bytes > 0
        exact = case.exact()
        assert timing.error_of(case, case.ours()(), exact, "ours") <= case.tolerance
        for name, prepare in case.peers.items():
            if name != "torchnmf":
                assert timing.error_of(case, prepare()(), exact, name) <= case.tolerance


@pytest.mark.parametrize("operation", ["stft", "istft", "log_mel", "analyze", "soft_mask", "decode"])
@pytest.mark.parametrize("size", ["clip", "hour"])
def test_ours_reuses_its_answer_for_an_hour(operation, size, small):
    for case in cases.cases(operation, size):
        ours = case.ours()
        first, second = ours(), ours()
        pairs = zip(first, second, strict=True) if isinstance(first, tuple) else [(first, second)]
        assert [one is other for one, other in pairs] == [case.in_place] * (3 if isinstance(first, tuple) else 1)
        assert case.in_place == (size == "hour")


def test_a_wrong_answer_is_refused():
    case = case_of(lambda: lambda: np.ones(3), exact=lambda: np.ones(3))
    with pytest.raises(RuntimeError, match=r"stft: a peer: differs from the exact answer by 1\.0e-03"):
        timing.measure(case, case.exact(), 1, {"a peer": lambda: lambda: np.full(3, 1.001)}, 0)


@pytest.mark.parametrize("size", ["batch", "hour"])
def test_a_problem_is_made_of_clips(size, small):
    whole, clip = Problem.of_size(size), Problem()
    for one in (whole.clips()[0], whole.clips()[-1]):
        assert np.array_equal(one.y[:CLIP], clip.y)
    assert whole.dims[0] == {"batch": 2 * clip.n_frames, "hour": 1 + 3 * CLIP // 512}[size]
    assert whole.V.shape == (513, whole.dims[0])
    assert whole.V.min() > 0


@pytest.mark.parametrize("beta", [2.0, 1.0, 0.0])
def test_products_are_counted_as_torch_counts_them(beta):
    p = Problem(n_samples=40 * 512, n_components=7)
    T, F, _, _ = p.dims
    V, W, H = cases._start(p)
    (case,) = (case for case in cases.nmf_cases(p) if cases.LOSSES[case.variant] == beta)
    iterate = peers_nmf.Iteration(torch, V, W, H, beta)
    with FlopCounterMode(display=False) as counter:
        iterate()
    element_wise = {2.0: 0, 1.0: 2, 0.0: 4}[beta] * T * F
    assert case.flops == counter.get_total_flops() + element_wise


def test_the_race_counts_the_iterations_that_are_needed(monkeypatch):
    asked = []

    def factorize(V, W, H, *, max_iter, **_):
        asked.append(max_iter)
        return max_iter, 100.0 / max_iter

    monkeypatch.setattr(cases, "factorize", factorize)
    one = np.ones((1, 1), np.float32)
    for least in (1, 2, 7, 8, 9, 37, 399):
        assert cases._iterations_to(100.0 / least, one, one, one, 1.0, "mu") == least
    assert cases._iterations_to(0.0, one, one, one, 1.0, "mu") == 2 * cases.N_TARGET
    assert max(asked) < 2 * cases.N_TARGET


# ---- timing


def test_pairs_are_timed_in_turns_and_at_least_five():
    order = []
    pairs = timing.in_turns(lambda: order.append("ours"), lambda: order.append("peer"), 0)
    assert pairs.shape == (timing.LEAST_PAIRS, 2)
    assert order == ["ours", "peer"] * (1 + timing.LEAST_PAIRS)
    order.clear()
    timing.in_turns(lambda: order.append("ours"), lambda: order.append("peer"), 0, 1e-3)
    assert order == ["ours", "ours", "peer", "peer"] * (1 + timing.LEAST_PAIRS)


def test_the_difference_of_two_runs_is_an_iteration(monkeypatch):
    clock = iter([0.0, 1.25, 4.0])
    asked = []
    monkeypatch.setattr(peers_nmf.time, "perf_counter", lambda: next(clock))
    assert timing.time_of(peers_nmf.ByDifference(asked.append)) == pytest.approx(0.3)  # (2.75 - 1.25) / 5
    assert asked == [1, 6]


def test_every_push_is_timed(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(hops.time, "perf_counter", lambda: next(clock) ** 2)
    pushed = []

    def push(block, given):
        pushed.append((block, given))
        return [block]

    blocks = list(range(hops.CHUNK))
    stream = hops.Hops(push, blocks, [2 * block for block in blocks])
    assert stream().tolist() == blocks
    assert stream.times == []
    assert timing.time_of(stream) == 2 * hops.CHUNK - 1  # push i lasts from (2 i)^2 to (2 i + 1)^2
    timing.time_of(stream)
    assert pushed == 3 * [(block, 2 * block) for block in blocks]
    assert stream.times == [4 * i + 1 for i in range(2 * hops.CHUNK)]
    median, *_, longest = stream.percentiles()
    assert (median, longest) == (4 * hops.CHUNK - 1, 8 * hops.CHUNK - 3)


@pytest.mark.parametrize(("n_fft", "hop"), cases.FRAMES)
def test_each_block_of_a_stream_makes_a_frame_whole(n_fft, hop):
    p = Problem(n_samples=10 * n_fft + 999 * hop, n_fft=n_fft, hop=hop)
    first, blocks = hops.split(p)
    assert np.array_equal(np.concatenate([first, *blocks]), p.y[: first.size + blocks.size])
    stream = l2i.StreamDecoder(p.W, hop)
    assert stream.frames_in(first.size) == 0
    stream.push(first)
    for i, block in enumerate(blocks):
        stream.push(block)
        assert stream.hops == i + 1


def test_threads_are_set_and_restored():
    before = l2i.get_num_threads(), torch.get_num_threads()

    def fail():
        assert (l2i.get_num_threads(), torch.get_num_threads()) == (3, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), timing.threads(3):
        fail()
    assert (l2i.get_num_threads(), torch.get_num_threads()) == before


def test_more_threads_race_with_one():
    seen = []
    case = case_of(lambda: lambda: seen.append(l2i.get_num_threads()) or np.ones(1), exact=lambda: np.ones(1))
    (rival,) = timing.measure(case, np.ones(1), 2, {}, 0).rivals
    assert rival.name == "ours, 1 thread"
    assert set(seen) == {1, 2}


# ---- ceilings and memory


def test_ceilings_on_every_path(cpu_path):
    assert 0 < _core.peak_flops(0) < math.inf
    assert 0 < _core.read_bandwidth(4096 + 4, 0) < math.inf
    with pytest.raises(ValueError, match="n_bytes must be at least 512"):
        _core.read_bandwidth(511, 0)


def test_the_floor_is_what_takes_longer():
    one, two = Ceilings(1, 1e9, [8e9, 4e9, 1e9]), Ceilings(2, 2e9, [16e9, 8e9, 1e9])
    assert one.floor(5e8, 1e3) == 0.5
    assert one.floor(1, ARRAYS[0]) == ARRAYS[0] / 8e9
    assert one.floor(1, ARRAYS[0] + 1) == (ARRAYS[0] + 1) / 4e9
    assert two.floor(1, ARRAYS[0] + 1) == (ARRAYS[0] + 1) / 16e9  # half of it for each
    assert one.floor(1, 10 * ARRAYS[2]) == 10 * ARRAYS[2] / 1e9


@pytest.mark.skipif(not memory._RESET.exists(), reason="this system does not tell")
def test_memory_beyond_inputs_and_outputs():
    size = 64 << 20  # above what malloc keeps

    def call():
        scratch = np.ones(3 * size, np.uint8)
        return scratch[:size] + np.uint8(1)

    extra = memory._first_call(case_of(lambda: call))
    assert 2.9 * size < extra < 3.2 * size
    assert memory._first_call(case_of(lambda: call, in_place=True)) > 3.9 * size


def test_memory_is_measured_in_a_process_of_its_own():
    found = memory.extra_memory("soft_mask", "clip")
    assert len(found) == memory._RESET.exists()
    assert all(0 <= extra < 8e6 for extra in found)


# ---- the command


def test_what_is_measured_is_told_and_kept(quick, tmp_path):
    done = bench("--operation", "stft", "--operation", "nmf", "--size", "clip", "--size", "archive",
                 "--threads", 1, "--threads", 2, "--seconds", 0, "-o", tmp_path)  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "bench.json").read_text())
    rows = [(row["operation"], row["variant"], row["size"], row["threads"]) for row in found["rows"]]
    losses = "frobenius", "kullback-leibler", "itakura-saito"
    assert rows == [("stft", "", "clip", n) for n in (1, 2)] + [
        ("nmf", loss, "archive", n) for loss in losses for n in (1, 2)
    ]
    for row in found["rows"]:
        assert row["seconds"] > 0
        assert 0 < row["error"] < 1e-5
        names = [rival["name"] for rival in row["rivals"]]
        assert len(names) == (2 if row["threads"] == 2 else 3 if row["operation"] == "stft" else 4)
        assert all(rival["pairs"] >= 5 for rival in row["rivals"] if not rival["missing"])
    assert imread(tmp_path / "roofline.png").shape[2] == 4
    assert not (tmp_path / "scaling.png").exists()
    for word in ("stft", "nmf", "frobenius", "torch", "scikit-learn", "BLAS", str(tmp_path)):
        assert word in done.stdout
    assert "stft, clip" in done.stderr


def test_without_peers(quick, tmp_path):
    done = bench("--operation", "istft", "--size", "clip", "--threads", 1, "--no-peers", "-o", tmp_path)
    assert done.exit_code == 0, done.output
    (row,) = Measurements.load(tmp_path / "bench.json").rows
    assert row.seconds > 0
    assert row.rivals == []


def test_streams_are_measured_push_by_push(quick, tmp_path):
    done = bench("--operation", "stream", "--threads", 1, "--threads", 2, "--seconds", 0, "-o", tmp_path)
    assert done.exit_code == 0, done.output
    rows = Measurements.load(tmp_path / "bench.json").rows
    assert [(row.dims.split(",")[0], row.variant) for row in rows] == [
        (f"{n_fft} / {hop}", variant) for n_fft, hop in cases.FRAMES for variant in ("given activations", "10 updates")
    ]
    for row in rows:
        assert row.threads == 1
        assert 0 < row.error < 1e-5
        for one in (row, *row.rivals):
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
    assert [rival.missing for rival in row.rivals] == ["", "", "librosa"]


def test_an_operation_that_needs_what_is_missing_is_left_out(quick, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    done = bench("--operation", "race", "--operation", "stft", "--size", "clip", "--threads", 1,
                 "--seconds", 0, "-o", tmp_path)  # fmt: skip
    assert done.exit_code == 0, done.output
    found = Measurements.load(tmp_path / "bench.json")
    assert found.left_out == ["race, clip: sklearn.decomposition is missing"]
    assert found.left_out[0] in done.stdout
    assert [row.operation for row in found.rows] == ["stft"]


def test_an_interrupted_run_keeps_what_it_has(quick, tmp_path, monkeypatch):
    measure, done_before = run.measure, []

    def interrupted(*arguments):
        if done_before:
            raise KeyboardInterrupt
        done_before.append(arguments)
        return measure(*arguments)

    monkeypatch.setattr(run, "measure", interrupted)
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


def test_the_command_knows_every_operation_and_size():
    assert [one.value for one in cli.Operation] == [*OPERATIONS, "scaling"]
    assert [one.value for one in cli.Size] == list(SIZES)


# ---- reports


# ---- streams over time


def test_streams_are_watched_over_time(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(soak, "SECONDS", 0.1)
    assert soak._load(tiny_model, 2, None, False) > 0
    assert soak._load(tiny_model, 2, 2.5, False) > 0
    found = soak.Soak(memories=[soak.memory(tiny_model, 2 / 3600)])
    found.lives = [soak.live(tiny_model, 0.02, busy, refresh=0.5) for busy in (False, True)]
    for one in found.lives:
        assert one.deadline == 512 / 44100
        assert len(one.times) == round(1.2 / one.deadline)
        assert min(one.times) > 0
        assert 0 <= one.late <= one.missed <= len(one.times)
    assert found.memories[0].end > 0
    (written,) = soak.save_picture(tmp_path, found)
    assert imread(written).shape[2] == 4
    assert soak.save_picture(tmp_path, soak.Soak()) == []
    found.save(tmp_path / "there" / "soak.json")
    assert soak.Soak.load(tmp_path / "there" / "soak.json") == found


@pytest.mark.parametrize("cost", [3.0, 0.3, 1 / 41, 1 / 900])
def test_as_many_streams_as_a_core_carries(cost, monkeypatch):
    monkeypatch.setattr(soak, "_load", lambda model, n, *_: cost * n**1.01)
    found = soak.capacity(None, "none")
    most = max(1, (1 / cost) ** (1 / 1.01))
    assert 0.9 * most <= found.streams <= most
    assert found.load == cost * found.streams**1.01


def test_a_soak_in_markdown():
    found = soak.Soak(
        {"processor": "Z80", "path": "scalar", "date": "1976-07-01"},
        [soak.Capacity("none", None, 1000, 1.0), soak.Capacity("full window", 0.5, 50, 1.0)],
        [soak.Live(10, True, 0.25, 0.0116, 3, 1, 2399, 1, [1e-5] * 99 + [0.02])],
        [soak.Memory(1, 120, 2**29, 2**29 + 2**20, 2**29 + 2**20)],
    )
    lines = soak.markdown(found).splitlines()
    assert "| none | 1,000 | 1.00 |  |  |" in lines
    assert "| full window | 50 | 1.00 | 9.50 | 95 % |" in lines
    assert "| 10 min | a process that never rests | 100 | 3 | 1 | 10 | 210 | 18,021 | 20,000 | 2,399 | 1 |" in lines
    assert "| 1 h | 120 | 512.0 | 513.0 | 513.0 |" in lines


@pytest.fixture
def measured():
    rivals = [Rival("NumPy", 0.2, 2.0, 20, 1e-6), Rival("torchnmf", missing="torchnmf")]
    rows = [Row("nmf", "frobenius", "archive", "513 x 431, K = 3", n, 2e9, 1e6, 0.1, 1e-7, 3e6, rivals) for n in (1, 2)]
    points = [Point("stft", axis, value, value * 1e-3, None, "torch") for axis in "TKFB" for value in (3, 9)]
    ceilings = [Ceilings(n, n * 4e10, [3e11, 1e11, 2e10]) for n in (1, 2)]
    return Measurements(machine.describe(), ceilings, rows, points, ["race: x is missing"])


def test_json_holds_everything(measured, tmp_path):
    measured.save(tmp_path / "there" / "bench.json")
    assert Measurements.load(tmp_path / "there" / "bench.json") == measured


def test_markdown_tells_all(measured):
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
    measured.rows.append(Row("stream", "", "clip", "", 1, 1, 1, 1, 1, percentiles=[1, 2, 3, 4, 5]))
    streams = run.Measurements(measured.machine, measured.ceilings, measured.rows[2:], [], measured.left_out)
    others = run.Measurements(
        measured.machine, measured.ceilings, measured.rows[:2], measured.points, measured.left_out
    )
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


def test_the_hint_is_for_openblas_that_chose_other_kernels(measured):
    measured.machine |= {"path": "avx512", "blas": "openblas 0.3.30 Zen"}
    assert "OPENBLAS_CORETYPE" in blas_hint(measured)
    measured.machine["blas"] = "openblas 0.3.30 SkylakeX"
    assert blas_hint(measured) is None
