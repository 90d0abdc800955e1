"""Audited networks of any kind: each hears windows of samples through a front end of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from l2i_fast.adapters.parts import Output, Pooling
from l2i_fast.arguments import integer, one_of
from l2i_fast.audio import scale_to_peak
from l2i_fast.defaults import default_settings
from l2i_fast.model.audited import AuditedNetwork, Spectra
from l2i_fast.model.front_end import LogMel
from l2i_fast.networks.layouts import Layout
from l2i_fast.settings import Analysis

#: Windows that go through a network together.
_TOGETHER = 32
#: Smallest probability, and distance from 1, that has a logit.
_LEAST = 1e-7
#: By how much a probability may leave the range from 0 to 1.
_ROUNDING = 1e-3
#: Scores by which an answer is known again.
_ANSWERS = 16


class Runner(Protocol):
    """Interface of what runs a network on its own input."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers whose outputs it returns."""

    def __call__(self, x: Any, /) -> tuple[Tensor, Sequence[Tensor]]:
        """Return scores (B, C) and the outputs of the layers for what a front end makes of B windows."""


class Origin(NamedTuple):
    """How to make a network again.

    Attributes
    ----------
    factory : str
        Name of an adapter, or ``module:function``.
    arguments : mapping
        By which it was called, as JSON can write them.
    """

    factory: str
    arguments: Mapping[str, Any]


class WindowedNetwork(AuditedNetwork):
    """A network of any kind that hears windows of samples: see `l2i_fast.wrap`, which makes one.

    A recording is cut into windows; the last one ends with the recording, or is padded with silence if it is the only
    one. The probabilities of the windows are averaged (or their largest is taken). The columns of the hidden maps of
    all windows are joined to maps whose columns divide the recording evenly: each column is that of the window whose
    centre is nearest.

    Parameters
    ----------
    runner : callable
        Takes what `front_end` returns for B windows; returns scores (B, C) and the outputs of its `layers`.
    front_end : callable
        Takes samples (B, N), float32, not scaled, at the rate of `analysis`.
    classes, analysis, multilabel, decision
        See `AuditedNetwork`.
    layouts : sequence of Layout
        Of the outputs of the layers.
    window, hop : int or None
        Samples of a window, and from one to the next; a network without a window hears whole recordings.
    output : {"logits", "probabilities"}
        What the scores are.
    pooling : {"mean", "max"}
        How the probabilities of windows make those of a recording.
    fingerprint : str
        Differs between networks that differ.
    """

    def __init__(
        self,
        runner: Runner,
        front_end: Callable[[Tensor], Any],
        classes: Sequence[str],
        analysis: Analysis,
        layouts: Sequence[Layout],
        window: int | None = None,
        hop: int | None = None,
        multilabel: bool = False,
        decision: Sequence[float] | None = None,
        output: Output = "logits",
        pooling: Pooling = "mean",
        fingerprint: str = "",
    ) -> None:
        super().__init__(classes, analysis, runner.layers, multilabel, decision)
        self.runner, self.front_end = runner, front_end
        self.layouts = tuple(layouts)
        self.window = None if window is None else integer(window, "window")
        self.hop = self.window if hop is None else integer(hop, "hop", 1, self.window or 1)
        self.output = one_of(output, "output", get_args(Output))
        self.pooling = one_of(pooling, "pooling", get_args(Pooling))
        self.fingerprint = fingerprint
        self.origin: Origin | None = None
        self._spectrum = LogMel(analysis)
        if len(self.classes) == 1 and not self.multilabel:
            raise ValueError("classes has length 1, but a network with one class needs multilabel=True")

    @property
    def layout_texts(self) -> dict[str, str]:
        """Layers and their layouts, as text."""
        return {name: str(layout) for name, layout in zip(self.layers, self.layouts, strict=True)}

    @property
    def settings(self) -> dict[str, Any]:
        """How the network is wrapped: what changes its answers, as plain data."""
        names = "window", "hop", "multilabel", "output", "pooling"
        return {name: getattr(self, name) for name in names}

    @default_settings()
    @torch.inference_mode()
    def answer(self) -> list[float]:
        """Return the logits of up to 16 classes for a fixed signal: a changed front end answers otherwise."""
        y = 0.1 * torch.randn(1, self.window or self.analysis.sample_rate, generator=torch.Generator().manual_seed(0))
        return [float(x) for x in self.run(y.to(self.device)).logits[0, :_ANSWERS]]

    def to(self, device: str | torch.device) -> Self:
        """Move the network to a device: see `AuditedNetwork.to`."""
        super().to(device)
        for module in self.modules:
            module.to(self.device)
        return self

    @default_settings()
    @torch.inference_mode()
    def analyze(
        self, signals: Sequence[NDArray[np.float32]], scales: Sequence[float] | NDArray[np.float32] | None = None
    ) -> Spectra:
        """Analyse mono signals of one length; features are their samples (B, N), as the network hears them.

        The scales are those of the spectra only: the network hears the signals at their own level.
        """
        if scales is None:
            scales = [scale_to_peak(y, self.analysis.peak)[1] for y in signals]
        divisors = np.asarray(scales, np.float32)
        y = np.stack(signals)
        X, V, _ = self._spectrum.analyze(y / divisors[:, None], self.device)
        return Spectra(X, V, divisors, torch.from_numpy(y).to(self.device))

    @property
    def modules(self) -> list[nn.Module]:
        """The torch modules that run the network and its front end."""
        parts = (getattr(self.runner, "network", None), self.front_end)
        return [part for part in parts if isinstance(part, nn.Module)]

    @default_settings()
    def lets_gradients_pass(self) -> bool:
        """Whether gradients pass from the scores to the samples: through the front end, too."""
        n = self.window or self.analysis.sample_rate
        y = (0.1 * torch.randn(1, n, device=self.device)).requires_grad_()
        try:
            return bool(self.run(y).logits.requires_grad)
        except (RuntimeError, TypeError, ValueError):  # such as a runtime that takes arrays
            return False

    @property
    def live_filters(self) -> None:
        """None, since the network hears samples: see `AuditedNetwork.live_filters`."""
        return None

    def of_live(self, columns: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
        """Return samples (N,) at their own level: see `AuditedNetwork.of_live`."""
        return columns.reshape(-1)

    def _run(self, features: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        n_samples = features.shape[1]
        tiles = self.tiles(features)
        answers = [self._hear(part) for part in tiles.flatten(0, 1).split(_TOGETHER)]
        scores = torch.cat([scores for scores, _ in answers]).unflatten(0, tiles.shape[:2])
        maps = []
        for parts in zip(*(maps for _, maps in answers), strict=True):
            x = torch.cat(parts).unflatten(0, tiles.shape[:2])
            maps.append(joined(x, tiles.shape[2], self.starts(n_samples), n_samples))
        return self._pooled(scores.float()), maps

    def starts(self, n_samples: int) -> list[int]:
        """Return the first sample of each window of a signal."""
        if self.window is None or self.hop is None or n_samples <= self.window:
            return [0]
        n = 1 + -(-(n_samples - self.window) // self.hop)
        return [min(i * self.hop, n_samples - self.window) for i in range(n)]

    def tiles(self, y: Tensor) -> Tensor:
        """Return the windows (B, n, window) of signals (B, N)."""
        window = self.window or y.shape[1]
        if y.shape[1] < window:
            y = torch.nn.functional.pad(y, (0, window - y.shape[1]))
        return torch.stack([y[:, start : start + window] for start in self.starts(y.shape[1])], 1)

    def _hear(self, windows: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return scores (B, C) and maps of windows (B, N)."""
        scores, outputs = self.runner(self.front_end(windows))
        maps = []
        for name, layout, x in zip(self.layers, self.layouts, outputs, strict=True):
            try:
                maps.append(layout.to_map(x))
            except ValueError as error:
                raise ValueError(f"the layer {name!r}: {error}") from None
            if len(maps[-1]) != len(windows):
                count = f"{len(maps[-1])} maps, but one for each of {len(windows)} windows is needed"
                raise ValueError(f"the layer {name!r} returns {count}")
        if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != len(windows):
            shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            needed = f"({len(windows)}, {len(self.classes)})"
            raise ValueError(f"the network returns scores of shape {shape}, but {needed} is needed")
        if not bool(scores.isfinite().all()):
            raise ValueError("the network returns NaN or infinity in its scores, but finite ones are needed")
        for name, x in zip(self.layers, maps, strict=True):
            if not bool(x.isfinite().all()):
                raise ValueError(f"the layer {name!r} returns NaN or infinity, but finite maps are needed")
        if self.output == "probabilities" and not bool(((scores > -_ROUNDING) & (scores < 1 + _ROUNDING)).all()):
            span = f"{float(scores.min()):.3g} to {float(scores.max()):.3g}"
            raise ValueError(f"output is 'probabilities', but the network's scores go from {span}: they are logits")
        return scores, maps

    def _pooled(self, scores: Tensor) -> Tensor:
        """Return logits (B, C) of scores (B, n, C) of windows."""
        if scores.shape[1] == 1 and self.output == "logits":
            return scores[:, 0]
        p = scores if self.output == "probabilities" else self.probabilities(scores)
        p = p.mean(1) if self.pooling == "mean" else p.amax(1)
        p = p.clamp(_LEAST, 1 - _LEAST)
        return p.logit() if self.multilabel else p.log()

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the softmax or, with several labels, the sigmoid of logits (..., C)."""
        return logits.sigmoid() if self.multilabel else logits.softmax(-1)


def joined(x: Tensor, window: int, starts: Sequence[int], n_samples: int) -> Tensor:
    """Join the maps of windows to maps whose columns divide the signal evenly.

    Parameters
    ----------
    x : Tensor (B, n, channels, T, rows)
        Maps of n windows, whose T columns divide a window evenly.
    window : int
        Samples.
    starts : sequence of int
        First sample of each window.
    n_samples : int
        Of the signal.

    Returns
    -------
    Tensor (B, channels, round(T * n_samples / window), rows)
        At least one column. Each is interpolated linearly between the columns of the window whose centre is nearest,
        and repeats the outermost one beyond them.
    """
    n_columns = x.shape[3]
    if len(starts) == 1 and n_samples == window:
        return x[:, 0]
    total = max(1, round(n_columns * n_samples / window))
    centres = (np.arange(total) + 0.5) * n_samples / total
    begins = np.asarray(starts)
    nearest = np.abs(centres[:, None] - (begins + window / 2)).argmin(axis=1)
    place = ((centres - begins[nearest]) * n_columns / window - 0.5).clip(0, n_columns - 1)
    left = np.minimum(place.astype(int), max(0, n_columns - 2))
    right = np.minimum(left + 1, n_columns - 1)
    share = torch.from_numpy((place - left).astype(np.float32)).to(x.device)[:, None]
    # Indices on both sides of a slice move to the front: (total, B, channels, rows).
    before, after = (x[:, nearest, :, columns] for columns in (left, right))
    return (before + share[:, None, None] * (after - before)).permute(1, 2, 0, 3)


def digest(*parts: bytes) -> str:
    """Return a fingerprint of bytes."""
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        hashed.update(part)
    return hashed.hexdigest()
