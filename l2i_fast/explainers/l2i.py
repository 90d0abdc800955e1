"""Listen to Interpret as one method among others, and its random controls."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from l2i_fast.explainers.explainer import Explainer
from l2i_fast.model import L2I, AuditedNetwork
from l2i_fast.results import Result
from l2i_fast.settings import Selection

Float32 = NDArray[np.float32]


class ListenToInterpret(Explainer):
    """The components that a model's interpreter finds relevant.

    Parameters
    ----------
    model : L2I
    selection : Selection, optional
        Which components make an interpretation; the model's own by default.
    """

    name = "l2i"
    title = "L2I"
    paper = "Parekh, Parekh, Mozharovskyi, d'Alché-Buc and Richard: Listen to Interpret. NeurIPS 2022, arXiv 2202.11479"

    def __init__(self, model: L2I, selection: Selection | None = None) -> None:
        super().__init__(model.network)
        self.model = model
        self.selection = selection or model.selection

    @classmethod
    def for_model(cls, model: L2I) -> Self:
        """Return the method for a model."""
        return cls(model)

    def on(self, network: AuditedNetwork) -> Self:
        """Return the method with the same interpreter on another network: see `Explainer.on`."""
        twin = super().on(network)
        twin.model = L2I(network, self.model.interpreter, self.model.selection, self.model.name)
        return twin

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the model with the method's selection."""
        return {**self.model.settings, **dataclasses.asdict(self.selection)}

    def explain_equal(self, signals: Sequence[Float32], wanted: Sequence[Sequence[int] | None]) -> list[Result]:
        """Explain signals of one length: see `Explainer.explain_equal`."""
        results = self.model.interpret_equal(signals, wanted, self.selection, self.choose)
        return [dataclasses.replace(result, method=self.name) for result in results]

    def choose(self, relevance: Float32, energy: Float32) -> tuple[int, ...]:
        """Return the components of an interpretation, from the relevance (K,) and the energy (K,) of all."""
        return self.model.select(relevance, self.selection)


class EveryRelevant(ListenToInterpret):
    """All components with a relevance above 0.1, however many they are."""

    name = "l2i-all"
    title = "L2I, relevance above 0.1"

    def __init__(self, model: L2I) -> None:
        super().__init__(model, dataclasses.replace(model.selection, threshold=0.1, top_k=None))


class RandomComponents(ListenToInterpret):
    """As many components as `ListenToInterpret` selects, drawn at random: most components are silent in a clip."""

    name = "random-components"
    title = "As many random components"

    def choose(self, relevance: Float32, energy: Float32) -> tuple[int, ...]:
        """Draw components with a seed that depends on the energies only."""
        chosen = _drawn(energy)[: len(super().choose(relevance, energy))]
        return tuple(int(k) for k in chosen)


class EqualEnergy(ListenToInterpret):
    """Random components of at least the energy that `ListenToInterpret` selects."""

    name = "equal-energy"
    title = "Random components of equal energy"

    def choose(self, relevance: Float32, energy: Float32) -> tuple[int, ...]:
        """Draw components with a seed that depends on the energies only, until their energy suffices."""
        selected = list(super().choose(relevance, energy))
        order = _drawn(energy)
        needed = 1 + int(np.searchsorted(np.cumsum(energy[order]), energy[selected].sum()))
        return tuple(int(k) for k in order[: needed if selected else 0])


def _drawn(energy: Float32) -> NDArray[np.intp]:
    seed = np.frombuffer(np.ascontiguousarray(energy, np.float32).tobytes(), np.uint32)
    order: NDArray[np.intp] = np.random.default_rng(seed).permutation(len(energy))
    return order
