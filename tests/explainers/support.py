"""Networks and recordings that tests of methods share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from l2i_fast.model import LogMel, TorchNetwork
from l2i_fast.settings import Analysis

RATE = 44100
#: Mel bands of 128, at 44.1 kHz, that a low and a high tone excite.
LOW, HIGH = 600.0, 6000.0


def quiet(*_: Any) -> None:
    """Receive progress, and say nothing."""


def tone(hertz: float, n: int = 40000, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(n) / RATE)).astype(np.float32)


class Tones(nn.Module):
    """Decides by the loudest of its bands: the class "low" by the bands below the 64th, "high" by those above."""

    min_frames = 16

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.MaxPool2d(4), nn.ReLU())
        self.coarse = nn.Sequential(nn.MaxPool2d(2), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine((x + 60) / 30)
        coarse = self.coarse(fine)
        halves = coarse.unflatten(3, (2, -1)).amax(4).mean((1, 2))
        return 4 * (halves - halves.mean(1, keepdim=True))


def tones(multilabel: bool = False) -> TorchNetwork:
    return TorchNetwork(Tones(), LogMel(Analysis()), ("low", "high"), ("fine", "coarse"), multilabel=multilabel)


def pairs() -> list[tuple[np.ndarray, int]]:
    """Mixtures of a low and a high tone of different pitch, one of them softer."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(8):
        low, high = rng.uniform(0.8, 1.25, 2)
        levels = (0.3, 0.1) if i % 2 else (0.02, 0.6)
        found.append((tone(LOW * low, level=levels[0]) + tone(HIGH * high, level=levels[1]), RATE))
    return found


def kept_at(mask: np.ndarray, hertz: float) -> float:
    """Mean of a mask (F, T) around a frequency."""
    k = round(hertz * 1024 / RATE)
    return float(mask[k - 1 : k + 2].mean())


class NoGradients(TorchNetwork):
    """A network of another runtime."""

    def differentiable(self) -> Any:
        return super(TorchNetwork, self).differentiable()


def without_gradients() -> TorchNetwork:
    return NoGradients(Tones(), LogMel(Analysis()), ("low", "high"), ("fine", "coarse"))


REFUSED = "the network is a NoGradients, which has no gradients, but a TorchNetwork is needed"


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


class Interrupt:
    """A report that presses Ctrl-C after so many epochs."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, stage: str, done: int, total: int, text: str) -> None:
        if done == self.epoch:
            raise KeyboardInterrupt
