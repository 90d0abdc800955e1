"""Timing on the CPU: ours and a peer alternate, wrong answers are errors, numbers of threads are restored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import l2i_fast as l2i
from l2i_fast.bench import hops, peers_nmf, timing

from ..helpers import refused
from .helpers import case_of


def test_a_wrong_answer_is_an_error():
    case = case_of(lambda: lambda: np.ones(3), exact=lambda: np.ones(3))
    with refused(RuntimeError, "stft: a peer: differs from the exact answer by 1.0e-03"):
        timing.measure(case, case.exact(), 1, {"a peer": lambda: lambda: np.full(3, 1.001)}, 0)


def test_calls_alternate_and_make_at_least_five_pairs():
    order = []
    pairs = timing.alternate(lambda: order.append("ours"), lambda: order.append("peer"), 0)
    assert pairs.shape == (timing.LEAST_PAIRS, 2)
    assert order == ["ours", "peer"] * (1 + timing.LEAST_PAIRS)
    order.clear()
    timing.alternate(lambda: order.append("ours"), lambda: order.append("peer"), 0, 1e-3)
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


def test_threads_are_set_and_restored():
    before = l2i.get_num_threads(), torch.get_num_threads()

    def fail():
        assert (l2i.get_num_threads(), torch.get_num_threads()) == (3, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), timing.threads(3):
        fail()
    assert (l2i.get_num_threads(), torch.get_num_threads()) == before


def test_with_several_threads_one_thread_is_a_peer(monkeypatch):
    monkeypatch.setattr(timing, "REST", 1e-3)
    seen = []
    case = case_of(lambda: lambda: seen.append(l2i.get_num_threads()) or np.ones(1), exact=lambda: np.ones(1))
    (peer,) = timing.measure(case, np.ones(1), 2, {}, 0).peers
    assert peer.name == "ours, 1 thread"
    assert set(seen) == {1, 2}
