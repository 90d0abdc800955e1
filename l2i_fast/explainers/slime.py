"""SLIME: a linear model of the network around one recording, over blocks of time and frequency."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from torch import Tensor

from l2i_fast.arguments import integer, number
from l2i_fast.arrays import host
from l2i_fast.explainers.explainer import Evidence, Heard, SpectralExplainer
from l2i_fast.explainers.learning import magnitudes
from l2i_fast.explainers.seeds import content_seed
from l2i_fast.model import AuditedNetwork, Local
from l2i_fast.settings import Selection

Float32 = NDArray[np.float32]
Samples = NDArray[np.intp]

#: Width of the kernel over cosine distances, and weight of the squared coefficients: the defaults of LIME.
_WIDTH, _RIDGE = 0.25, 1.0
#: Coefficients up to this one are the rounding of the probabilities.
_ROUNDING = 1e-6
#: Frames of perturbed recordings that go through the network together, as long as one recording is not longer.
_FRAMES = 2000


class SLIME(SpectralExplainer):
    """Local interpretable explanations by blocks of the spectrogram.

    The spectrogram is cut into blocks. A linear model is fitted to the probability p of the class for recordings that
    hold a random half of the blocks (Ribeiro, Singh and Guestrin, KDD 2016; Mishra, Sturm and Dixon, ISMIR 2017):

        min_w  sum_z  exp(-d(z)^2 / width^2)^(1/2) (p(z) - w0 - w'z)^2 + |w|^2,    d(z) = 1 - cos(z, 1)

    with z the blocks that are held, 0 or 1; the first z holds all. The relevance of a block is its coefficient relative
    to the largest. Blocks of a relevance above `threshold` are kept, all others removed. The blocks of frequency are of
    equal width on the scale of the network's bands, those of time of equal length.

    Where a network is known to begin with parts that read each moment alone (`AuditedNetwork.split`), these run once
    for each choice of blocks that a moment reads, instead of once for each sample; the answers are the same.

    audioLIME (Haunschmid, Manilow and Widmer, 2020) is the same regression over sources that a separation network
    finds, which this package has none of.

    Parameters
    ----------
    network : AuditedNetwork
    n_samples : int
        Number of perturbed recordings.
    n_bands, n_times : int
        Blocks of frequency and of time.
    threshold : float
    """

    name = "slime"
    title = "SLIME"
    paper = (
        "Mishra, Sturm and Dixon: Local Interpretable Model-Agnostic Explanations for Music Content Analysis. "
        "ISMIR 2017"
    )

    def __init__(
        self,
        network: AuditedNetwork,
        n_samples: int = 1000,
        n_bands: int = 4,
        n_times: int = 6,
        threshold: float = Selection.threshold,
    ) -> None:
        super().__init__(network)
        self.n_samples = integer(n_samples, "n_samples", 2)
        self.n_bands, self.n_times = integer(n_bands, "n_bands"), integer(n_times, "n_times")
        self.threshold = number(threshold, "threshold", 0, 1)

    @property
    def settings(self) -> dict[str, Any]:
        """The analysis, the blocks, the number of samples and the threshold."""
        names = ("n_samples", "n_bands", "n_times", "threshold")
        return {**super().settings, **{name: getattr(self, name) for name in names}}

    def find(self, heard: Heard, targets: Sequence[int]) -> list[Evidence]:
        """Return the blocks that speak for one class in each signal: see `MaskExplainer.find`."""
        band, time = self.blocks(heard.X.shape[2])
        samples: dict[int, tuple[Float32, Float32]] = {}  # a recording with several classes is perturbed once
        found = []
        for A, y, target in zip(magnitudes(heard.X), heard.signals, targets, strict=True):
            seed = content_seed(y)
            if seed not in samples:
                held = self._draw(seed)
                samples[seed] = held, self._probabilities(A, band, time, held)
            held, p = samples[seed]
            found.append(self._evidence(band[:, None] * self.n_times + time, held, p[:, target]))
        return found

    def _draw(self, seed: int) -> Float32:
        rng = np.random.default_rng(seed)
        held = rng.integers(0, 2, (self.n_samples, self.n_bands * self.n_times)).astype(np.float32)
        held[0] = 1
        return held

    def _evidence(self, block: NDArray[np.intp], held: Float32, p: Float32) -> Evidence:
        some = np.unique(block)  # the other blocks hold nothing: fewer frames than blocks, or bands narrower than a bin
        relevance = np.zeros(held.shape[1], np.float32)
        relevance[some] = relevance_of(held[:, some], p)
        chosen = tuple(int(k) for k in np.argsort(-relevance, kind="stable") if relevance[k] > self.threshold)
        kept = np.isin(np.arange(len(relevance)), chosen).astype(np.float32)
        return Evidence(kept[block], relevance, chosen, bool(relevance.max() > 0))

    def blocks(self, n_frames: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the block of frequency of each bin (F,), and the block of time of each of `n_frames` frames."""
        filters = self.network.front_end.filters
        n_mels = filters.shape[1]
        total = filters.sum(axis=1)
        middle = np.divide(filters @ np.arange(n_mels), total, out=np.full(len(total), -1.0), where=total > 0)
        place = np.maximum.accumulate(middle)  # bins without a band: below the first one, above the last one
        band = np.clip((place + 0.5) * self.n_bands // n_mels, 0, self.n_bands - 1).astype(np.intp)
        return band, np.arange(n_frames) * self.n_times // n_frames

    @torch.inference_mode()
    def _probabilities(
        self, A: Tensor, band: NDArray[np.intp], time: NDArray[np.intp], held: Float32
    ) -> NDArray[np.float32]:
        """Return probabilities (samples, C) of the recording with the magnitudes A (T, F) and some blocks only.

        Masked magnitudes are exactly those that the front end sees, up to the way through audio: what a frame keeps
        leaks into its neighbours there.
        """
        front_end, network = self.network.front_end, self.network
        filters = torch.from_numpy(front_end.filters.copy())
        mel = torch.stack([A[:, band == i] @ filters[band == i] for i in range(self.n_bands)])  # (bands, T, n_mels)

        blocks = held.reshape(-1, self.n_bands, self.n_times)

        def features(samples: Samples, start: int, stop: int) -> Tensor:
            switches = torch.from_numpy(blocks[samples])[:, :, time[start:stop]]
            mels = torch.einsum("sbt,btm->stm", switches, mel[:, start:stop])
            return front_end.of_mel(mels).unsqueeze(1).to(network.device)

        # With more bands, two neighbouring blocks of time would differ between most samples.
        shared = len(time) >= network.min_frames and 4**self.n_bands < len(held)
        split = network.split() if shared else None
        map_ = _Map(features, time, time)
        for local in split.local if split else ():
            map_ = _once_for_each_choice(local, map_, blocks)
        rest = split.rest if split else lambda x: network.run(x).logits
        batches = _batches(np.arange(len(held)), len(time))
        p: NDArray[np.float32] = host(network.probabilities(torch.cat([rest(map_.of(some)) for some in batches])))
        return p


class _Map(NamedTuple):
    """A map inside the network, for every sample.

    Attributes
    ----------
    part : callable
        Takes indices of samples, the first column and the end of a part, and returns it: a Tensor (samples, channels,
        columns, frequency).
    first, last : ndarray (columns,)
        The first and the last block of time that a column depends on.
    """

    part: Callable[[Samples, int, int], Tensor]
    first: NDArray[np.intp]
    last: NDArray[np.intp]

    def of(self, samples: Samples) -> Tensor:
        """Return the whole map of some samples."""
        return self.part(samples, 0, len(self.first))


def _once_for_each_choice(local: Local, before: _Map, held: Float32) -> _Map:
    """Return the map after a local part of the network.

    It is computed in pieces of columns that depend on the same blocks of time. Samples that hold the same of these
    blocks have the piece in common, and it is computed once for all of them.

    Parameters
    ----------
    local : Local
    before : _Map
        What the part reads.
    held : ndarray (samples, bands, times)
        Blocks, 0 or 1.
    """
    n = len(before.first)
    column = np.arange(n // local.stride)
    first = before.first[np.maximum(column * local.stride - local.reach, 0)]
    last = before.last[np.minimum((column + 1) * local.stride + local.reach, n) - 1]
    changes = (np.diff(first) != 0) | (np.diff(last) != 0)
    pieces: list[tuple[int, int, Tensor, Samples]] = []
    for columns in np.split(column, np.flatnonzero(changes) + 1):
        start, stop = int(columns[0]), int(columns[-1]) + 1
        read = held[:, :, first[start] : last[start] + 1].reshape(len(held), -1)
        _, chosen, index = np.unique(read, axis=0, return_index=True, return_inverse=True)
        left = max(start * local.stride - local.reach, 0) // local.stride  # whole columns, which keeps the phase
        right = min(stop * local.stride + local.reach, n)
        found = [
            local.run(before.part(some, left * local.stride, right))[:, :, start - left : stop - left]
            for some in _batches(chosen, right - left * local.stride)
        ]
        pieces.append((start, stop, torch.cat(found), index.reshape(-1)))

    def part(samples: Samples, start: int, stop: int) -> Tensor:
        found = [
            x[index[samples]][:, :, max(start - here, 0) : stop - here]
            for here, end, x, index in pieces
            if here < stop and end > start
        ]
        return torch.cat(found, 2)

    return _Map(part, first, last)


def _batches(samples: Samples, n_frames: int) -> Iterator[Samples]:
    """Yield samples of `n_frames` frames, or columns, in parts that go through the network together."""
    size = max(1, _FRAMES // n_frames)
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def relevance_of(held: Float32, p: Float32) -> Float32:
    """Return the coefficients (R,) of the weighted ridge regression of p (samples,) on blocks (samples, R).

    They are divided by the largest; all are 0 where none is positive beyond rounding.
    """
    n = held.sum(axis=1)
    distance = 1 - np.sqrt(n / held.shape[1])  # the cosine of z and 1 is sqrt(sum(z) / R)
    weights = np.sqrt(np.exp(-(distance**2) / _WIDTH**2))
    w = Ridge(alpha=_RIDGE).fit(held.astype(np.float64), p.astype(np.float64), sample_weight=weights).coef_
    largest = float(w.max())
    relevance: Float32 = (w / largest if largest > _ROUNDING else np.zeros_like(w)).astype(np.float32)
    return relevance
