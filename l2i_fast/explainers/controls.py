"""Controls: masks that know nothing of the network's reasons, but keep as much as another method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from l2i_fast.arguments import number
from l2i_fast.arrays import host
from l2i_fast.explainers.explainer import Evidence, Explainer, Heard, MaskExplainer
from l2i_fast.explainers.l2i import ListenToInterpret
from l2i_fast.explainers.seeds import content_seed
from l2i_fast.model import L2I, AuditedNetwork
from l2i_fast.results.masking import kept_share

Float32 = NDArray[np.float32]


class Constant(MaskExplainer):
    """The same mask in every bin.

    Parameters
    ----------
    network : AuditedNetwork
    kept : float or Explainer
        The share of the log magnitude to keep, ``sum(m V) / sum(V)``, from 0 to 1; or a method whose share is matched
        in each recording.
    """

    name = "constant"
    title = "Constant mask"
    paper = "A control"
    domain = "log"

    def __init__(self, network: AuditedNetwork, kept: float | Explainer = 0.5) -> None:
        super().__init__(network)
        self.kept = kept if isinstance(kept, Explainer) else number(kept, "kept", 0, 1)

    @classmethod
    def for_model(cls, model: L2I) -> Self:
        """Return the control that keeps as much as the model's own interpretations."""
        return cls(model.network, ListenToInterpret.for_model(model))

    @property
    def settings(self) -> dict[str, Any]:
        """The analysis, and the share or the name of the method that is matched."""
        return {**super().settings, "kept": self.kept.name if isinstance(self.kept, Explainer) else self.kept}

    def on(self, network: AuditedNetwork) -> Self:
        """Return the control for another network, matched to the method on that network: see `Explainer.on`."""
        twin = super().on(network)
        twin.kept = self.kept.on(network) if isinstance(self.kept, Explainer) else self.kept
        return twin

    def find(self, heard: Heard, targets: Sequence[int]) -> list[Evidence]:
        """Return masks of the matched share: see `MaskExplainer.find`."""
        V = np.log1p(np.abs(host(heard.X)))
        if isinstance(self.kept, Explainer):
            results = self.kept.explain_equal(heard.signals, [[c] for c in targets])
            shares = [
                kept_share(result.mask(), v, result.settings["domain"]) for result, v in zip(results, V, strict=True)
            ]
        else:
            shares = [self.kept] * len(V)
        return [Evidence(self.mask(share, v)) for share, v in zip(shares, V, strict=True)]

    def mask(self, share: float, V: Float32) -> Float32:
        """Return the mask that keeps a share of the log magnitude V (F, T)."""
        return np.full((1, 1), share, np.float32)


class Loudest(Constant):
    """The loudest bins, in full."""

    name = "loudest"
    title = "Loudest bins"

    def mask(self, share: float, V: Float32) -> Float32:
        """Return the mask of the loudest bins that hold a share of the log magnitude V (F, T)."""
        order = np.argsort(-V, axis=None, kind="stable")
        sums = np.cumsum(V.ravel()[order], dtype=np.float64)
        mask = np.zeros(V.size, np.float32)
        mask[order[: int(np.searchsorted(sums, share * sums[-1]))]] = 1
        return mask.reshape(V.shape)


class RandomBands(Constant):
    """Frequency bins drawn at random, each over the whole recording: the control for masking itself."""

    name = "random-bands"
    title = "Random frequency bins"
    #: 0 draws bins, 1 draws frames.
    axis: ClassVar[int] = 0

    def mask(self, share: float, V: Float32) -> Float32:
        """Return the mask of bins or frames that hold a share of the log magnitude V (F, T), the last one in part.

        The draw depends on V only.
        """
        held = V.sum(axis=1 - self.axis, dtype=np.float64)
        order = np.random.default_rng(content_seed(V)).permutation(len(held))
        drawn = held[order]
        before = np.cumsum(drawn) - drawn
        kept = np.zeros(len(held), np.float32)
        kept[order] = np.clip((share * held.sum() - before) / np.where(drawn > 0, drawn, 1), 0, 1)
        return np.expand_dims(kept, 1 - self.axis)


class RandomFrames(RandomBands):
    """Frames drawn at random, each over all frequencies: the control for masking itself."""

    name = "random-frames"
    title = "Random frames"
    axis = 1
