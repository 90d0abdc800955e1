"""SLIME on a network in parts: what samples have in common is computed once, and nothing else changes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from l2i_fast.explainers import SLIME
from l2i_fast.model import Local, LogMel, TorchNetwork
from l2i_fast.networks.classifier import Classifier
from l2i_fast.settings import Analysis

from .support import tones


@pytest.fixture(scope="module")
def network() -> TorchNetwork:
    """A classifier whose answers depend much on its input: each block hands on the deviations that it receives."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Classifier(4, width=0.0625, embedding=32)
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    module.mean.fill_(-10.0)
    module.std.fill_(10.0)
    return TorchNetwork(module, LogMel(Analysis()), ("a", "b", "c", "d"))


def probabilities(method: SLIME, A: Tensor, held: np.ndarray) -> np.ndarray:
    band, time = method.blocks(len(A))
    p: np.ndarray = method._probabilities(A, band, time, held)
    return p


# 40 frames are padded to 128; 130 in six blocks are less than a column reads; 431 end behind the last column.
@pytest.mark.parametrize(("n_frames", "n_times"), [(40, 2), (128, 3), (130, 6), (300, 1), (431, 6), (431, 3)])
def test_the_answers_are_those_of_whole_samples(
    n_frames: int, n_times: int, network: TorchNetwork, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    A = torch.from_numpy(rng.exponential(size=(n_frames, 513)).astype(np.float32))
    held = rng.integers(0, 2, (30, 2 * n_times)).astype(np.float32)
    method = SLIME(network, n_bands=2, n_times=n_times)
    found = probabilities(method, A, held)
    monkeypatch.setattr(TorchNetwork, "split", lambda self: None)
    expected = probabilities(method, A, held)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 1e-3


def test_few_frames_run_and_samples_have_pieces_in_common(
    network: TorchNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = network.split()
    assert split is not None
    columns = [0] * len(split.local)

    def counted(i: int, local: Local) -> Local:
        def run(x: Tensor) -> Tensor:
            columns[i] += x.shape[0] * x.shape[2]
            return local.run(x)

        return local._replace(run=run)

    local = tuple(counted(i, one) for i, one in enumerate(split.local))
    monkeypatch.setattr(TorchNetwork, "split", lambda self: split._replace(local=local))
    held = np.random.default_rng(0).integers(0, 2, (200, 6)).astype(np.float32)
    probabilities(SLIME(network, n_bands=1, n_times=6), torch.ones(431, 513), held)
    # Six pieces of 2 choices, five between of 4, each with 4 columns more on either side; in the last part, some
    # columns depend on three blocks of time.
    assert columns[0] <= 6 * 2 * (72 + 8) + 5 * 4 * (2 * 4 + 8)
    assert columns[1] <= 6 * 2 * (36 + 8) + 5 * 4 * (2 * 4 + 8)
    assert columns[2] <= 6 * 2 * (18 + 8) + 5 * 4 * (2 * 4 + 8)
    assert columns[3] <= 54 * 8 + 20 * 8 * 8
    assert sum(columns) < 200 * 431 / 10


def test_samples_with_little_in_common_run_whole(network: TorchNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: TorchNetwork) -> None:
        raise AssertionError("the memory for pieces of each sample is not bounded")

    monkeypatch.setattr(TorchNetwork, "split", refuse)
    held = np.random.default_rng(0).integers(0, 2, (16, 4)).astype(np.float32)
    assert probabilities(SLIME(network, n_bands=2, n_times=2), torch.ones(128, 513), held).shape == (16, 4)


def test_a_column_reads_what_the_split_states(network: TorchNetwork, rng: np.random.Generator) -> None:
    split = network.split()
    assert split is not None
    features = whole = torch.from_numpy(rng.normal(-30, 10, (1, 1, 203, 128)).astype(np.float32))
    for local in split.local:
        x, n = whole, whole.shape[2]
        whole = local.run(x)
        assert whole.shape[2] == n // local.stride
        for j in (0, 5, whole.shape[2] - 1):
            first, end = max(0, local.stride * j - local.reach), local.stride * (j + 1) + local.reach
            outside = torch.randn_like(x) * x.std()
            outside[:, :, first:end] = x[:, :, first:end]
            torch.testing.assert_close(local.run(outside)[:, :, j], whole[:, :, j], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(split.rest(whole), network.run(features).logits, rtol=1e-5, atol=1e-5)


def test_a_split_runs_in_evaluation(network: TorchNetwork) -> None:
    module = copy.deepcopy(network.module)
    unfolded = TorchNetwork(module, network.front_end, network.classes, fold=False)
    split = unfolded.split()
    assert split is not None
    x = torch.randn(2, 1, 128, 128) * 10 - 30
    expected = unfolded.run(x).logits
    module.train()
    for local in split.local:
        x = local.run(x)
    torch.testing.assert_close(split.rest(x), expected, rtol=1e-5, atol=1e-5)
    assert module.training


def test_other_modules_run_whole() -> None:
    assert tones().split() is None
