"""Masked sound: what is kept and what is left add up to the recording, and its end does not click."""

from __future__ import annotations

import numpy as np
import pytest

from l2i_fast import reference
from l2i_fast.model import L2I
from l2i_fast.results.masking import apply_mask, fade_end

from ..helpers import relative

SETTINGS = {"n_fft": 1024, "hop_length": 512, "peak": "absolute", "domain": "magnitude"}


def cover(n: int, n_fft: int, hop: int) -> np.ndarray:
    """Sum of the squared Hann windows over n samples."""
    window = np.sin(np.pi * np.arange(n_fft) / n_fft) ** 2
    total = np.zeros(n + 2 * n_fft)
    for t in range(1 + n // hop):
        total[t * hop : t * hop + n_fft] += window**2
    return total[n_fft // 2 : n_fft // 2 + n]


@pytest.mark.parametrize(("n_fft", "hop"), [(1024, 512), (1024, 256), (512, 128), (301, 97)])
def test_only_the_end_that_no_window_covers_fades(n_fft: int, hop: int, rng: np.random.Generator) -> None:
    for n in (1, hop - 1, hop, 5 * hop + 3, 5 * hop + hop - 1, int(rng.integers(1, 9 * hop))):
        y = rng.standard_normal(n).astype(np.float32)
        wanted = y * np.minimum(1, cover(n, n_fft, hop) / 0.01)
        np.testing.assert_allclose(fade_end(y, n_fft, hop), wanted, rtol=1e-5, atol=1e-7)
        if n % hop < 0.7 * hop:
            np.testing.assert_array_equal(fade_end(y, n_fft, hop), y)


@pytest.mark.parametrize("domain", ["log", "magnitude", "wiener"])
def test_the_end_is_no_louder_than_the_rest(domain: str, rng: np.random.Generator) -> None:
    settings = SETTINGS | {"domain": domain}
    for beyond in (0, 300, 409, 490, 505, 511):
        y = rng.standard_normal(20 * 512 + beyond).astype(np.float32)
        mask = rng.random((513, 21)).astype(np.float32)
        kept = apply_mask(y, mask, settings)
        # Divided by the window where its square is 0.01; random masks fit worse than any other.
        assert np.abs(kept[-512:]).max() < 10 * np.abs(kept[:-512]).max()
        whole = kept + apply_mask(y, 1 - mask, settings)
        if domain != "log":  # where magnitudes add up
            assert relative(whole[:-110], y[:-110]) < 1e-5


def test_an_interpretation_ends_without_a_click(tiny_model: L2I, rng: np.random.Generator) -> None:
    y = (0.1 * rng.standard_normal(40 * 512 + 511)).astype(np.float32)
    result = tiny_model.interpret((y, 44100), targets=[0, 1, 2])
    analyzed = tiny_model.analyze([y])
    for explanation in result.explanations:
        assert np.abs(explanation.audio).max() < 3 * np.abs(y).max()
        weights = np.isin(np.arange(12), explanation.components).astype(np.float64)
        wanted = reference.decode(
            analyzed.X[0], tiny_model.dictionary, analyzed.H[0].numpy(), weights,
            np.sin(np.pi * np.arange(1024) / 1024) ** 2, 512, length=len(y),
        )  # fmt: skip
        wanted = wanted * np.minimum(1, cover(len(y), 1024, 512) / 0.01) * analyzed.scales[0]
        assert relative(explanation.audio, wanted) < 1e-4
