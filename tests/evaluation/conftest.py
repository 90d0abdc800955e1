"""Shared by tests of evaluations: short recordings of four classes in two folds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from l2i_fast.audio import write_audio
from l2i_fast.data import Clip, Dataset
from l2i_fast.model import L2I, TorchNetwork

from ..conftest import make_model

RATE = 44100


def coloured(i: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of 0.4 s whose band, width and level depend on i."""
    filtered = np.sin(0.15 * (1 + i) * np.arange(20 + 40 * (i % 3)))
    y = np.convolve(rng.standard_normal(round(0.4 * RATE)), filtered, mode="same")
    return np.float32(0.5 / np.abs(y).max() / (1 + i)) * y.astype(np.float32)


@pytest.fixture(scope="session")
def noises(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Twelve clips of 0.4 s, noises of different colours; each class is in both folds."""
    folder = tmp_path_factory.mktemp("noises")
    rng = np.random.default_rng(5)
    clips = []
    for i in range(12):
        path = write_audio(folder / f"{i}.wav", coloured(i, rng), RATE)
        clips.append(Clip(path, (i % 4,), 1 + i // 4 % 2, path.stem))
    return Dataset("noises", ("dog", "rain", "clock tick", "helicopter"), tuple(clips), False, 0.4)


def quiet(stage: str, done: int, total: int, text: str) -> None:
    """A report that says nothing."""


def a_model(theta: str = "attention", seed: int = 0) -> L2I:
    """A small model of random weights that selects some components, and whose decisions differ from clip to clip."""
    model = make_model(theta, seed=seed)
    module = model.network.module  # type: ignore[attr-defined]
    rng = np.random.default_rng(5)
    features = model.network.padded(model.network.analyze([coloured(i, rng) for i in range(12)]).features.clone())
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for norm in module.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.momentum = 1.0
        module.train()(features)
        module.eval()
        module.out.bias.zero_()
        module.out.weight /= module(features).std(0).mean()
        module.out.bias -= module(features).mean(0)
    network = TorchNetwork(module, model.network.front_end, model.classes)
    return L2I(network, model.interpreter, dataclasses.replace(model.selection, threshold=0.1, top_k=4), "tiny")
