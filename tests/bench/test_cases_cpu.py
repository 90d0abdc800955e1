"""The cases on the CPU: ours and the peers give the exact answers, and operations are counted correctly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import l2i_fast as l2i
from l2i_fast.bench import cases_cpu, hops, peers_nmf, problem
from l2i_fast.bench.case import LOSSES
from l2i_fast.bench.cases_cpu import OPERATIONS, cases
from l2i_fast.bench.problem import Problem
from l2i_fast.bench.timing import error_of


@pytest.mark.parametrize(
    ("operation", "size"), [(name, size) for name, (_, sizes) in OPERATIONS.items() for size in sizes]
)
def test_ours_and_the_peers_give_the_exact_answer(operation, size, small):
    every = list(cases(operation, size))
    assert every
    for case in every:
        assert case.flops > 0
        assert case.bytes > 0
        exact = case.exact()
        assert error_of(case, case.ours["ours"]()(), exact) <= case.tolerance
        for name, prepare in case.peers.items():
            if name != "torchnmf":
                assert error_of(case, prepare()(), exact) <= case.tolerance


@pytest.mark.parametrize("operation", ["stft", "istft", "log_mel", "analyze", "soft_mask", "decode"])
@pytest.mark.parametrize("size", ["clip", "hour"])
def test_ours_reuses_its_answer_for_an_hour(operation, size, small):
    for case in cases(operation, size):
        ours = case.ours["ours"]()
        first, second = ours(), ours()
        pairs = zip(first, second, strict=True) if isinstance(first, tuple) else [(first, second)]
        assert [one is other for one, other in pairs] == [case.in_place] * (3 if isinstance(first, tuple) else 1)
        assert case.in_place == (size == "hour")


@pytest.mark.parametrize("size", ["batch", "hour"])
def test_a_problem_is_made_of_clips(size, small):
    whole, clip = Problem.of_size(size), Problem()
    for one in (whole.clips()[0], whole.clips()[-1], whole.head()):
        assert np.array_equal(one.y[: problem.CLIP], clip.y)
    assert whole.dims[0] == {"batch": 2 * clip.n_frames, "hour": 1 + 3 * problem.CLIP // 512}[size]
    assert whole.V.shape == (513, whole.dims[0])
    assert whole.V.min() > 0


@pytest.mark.parametrize("beta", [2.0, 1.0, 0.0])
def test_products_are_counted_as_torch_counts_them(beta):
    p = Problem(n_samples=40 * 512, n_components=7)
    T, F, _, _ = p.dims
    V, W, H = cases_cpu._start(p)
    (case,) = (case for case in cases_cpu.nmf_cases(p) if LOSSES[case.variant] == beta)
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

    monkeypatch.setattr(cases_cpu, "factorize", factorize)
    one = np.ones((1, 1), np.float32)
    for least in (1, 2, 7, 8, 9, 37, 399):
        assert cases_cpu._iterations_to(100.0 / least, one, one, one, 1.0, "mu") == least
    assert cases_cpu._iterations_to(0.0, one, one, one, 1.0, "mu") == 2 * cases_cpu.N_TARGET
    assert max(asked) < 2 * cases_cpu.N_TARGET


@pytest.mark.parametrize(("n_fft", "hop"), cases_cpu.FRAMES)
def test_each_block_of_a_stream_completes_a_frame(n_fft, hop):
    p = Problem(n_samples=10 * n_fft + 999 * hop, n_fft=n_fft, hop=hop)
    first, blocks = hops.split(p)
    assert np.array_equal(np.concatenate([first, *blocks]), p.y[: first.size + blocks.size])
    stream = l2i.StreamDecoder(p.W, hop)
    assert stream.frames_in(first.size) == 0
    stream.push(first)
    for i, block in enumerate(blocks):
        stream.push(block)
        assert stream.hops == i + 1
