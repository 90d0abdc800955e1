"""The parts of a result that its picture shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from l2i_fast.results.explanation import Explanation


class Drawn(Protocol):
    """Interface of a result as its picture needs it; the attributes are those of `Result`."""

    @property
    def source(self) -> str:
        """Name of the recording."""

    @property
    def sample_rate(self) -> int:
        """Hz."""

    @property
    def input(self) -> NDArray[np.float32]:
        """Samples (N,)."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the C classes."""

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Probabilities (C,)."""

    @property
    def prediction(self) -> tuple[str, ...]:
        """The predicted classes."""

    @property
    def activations(self) -> NDArray[np.float32]:
        """H (K, T)."""

    @property
    def dictionary(self) -> NDArray[np.float32]:
        """W (F, K)."""

    @property
    def explanations(self) -> Sequence[Explanation]:
        """One for each explained class."""

    @property
    def method(self) -> str:
        """Name of the method that explains."""

    @property
    def settings(self) -> dict[str, Any]:
        """At least n_fft, hop_length and threshold."""
