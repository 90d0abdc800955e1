"""Controls for masking itself: whole bins or frames, drawn at random."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l2i_fast.explainers import EXPLAINERS
from l2i_fast.metrics import judge
from l2i_fast.model import L2I
from l2i_fast.results.masking import kept_share, log_magnitude

both = pytest.mark.parametrize(("name", "axis"), [("random-bands", 0), ("random-frames", 1)])


@pytest.fixture(scope="module")
def sounds() -> list[tuple[np.ndarray, int]]:
    rng = np.random.default_rng(1)
    return [(0.1 * rng.standard_normal(n).astype(np.float32), 44100) for n in (30000, 20000, 30000)]


@both
def test_whole_bins_or_frames_hold_the_share(
    name: str, axis: int, tiny_model: L2I, sounds: list[tuple[np.ndarray, int]]
) -> None:
    method: Any = EXPLAINERS[name]
    for result in method(tiny_model.network, 0.4).explain(sounds):
        mask = result.mask()
        assert kept_share(mask, log_magnitude(result.input, result.settings), "log") == pytest.approx(0.4, rel=1e-5)
        assert np.ptp(mask, axis=1 - axis).max() == 0
        lines = mask.take(0, axis=1 - axis)
        assert ((lines > 0) & (lines < 1)).sum() <= 1
        assert np.abs(np.diff(lines > 0.5)).sum() > 2  # scattered, not the first ones


@both
def test_a_draw_depends_on_the_recording_only(
    name: str, axis: int, tiny_model: L2I, sounds: list[tuple[np.ndarray, int]]
) -> None:
    method: Any = EXPLAINERS[name](tiny_model.network)  # keeps half
    results = method.explain(sounds)
    for sound, result in zip(sounds, results, strict=True):
        np.testing.assert_array_equal(method.explain([sound])[0].mask(), result.mask())
    alike = (results[0].mask() > 0.5) == (results[2].mask() > 0.5)
    assert alike.mean() < 0.8


@both
def test_as_much_is_kept_as_by_the_model(
    name: str, axis: int, tiny_model: L2I, sounds: list[tuple[np.ndarray, int]]
) -> None:
    kept = [
        [found.kept_share for found in judge(tiny_model.network, EXPLAINERS[n].for_model(tiny_model).explain(sounds))]
        for n in (name, "l2i")
    ]
    np.testing.assert_allclose(kept[0], kept[1], rtol=1e-4)


@both
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_silence_and_extreme_shares(name: str, axis: int, share: float, tiny_model: L2I) -> None:
    method: Any = EXPLAINERS[name](tiny_model.network)
    assert np.isfinite(method.mask(share, np.zeros((4, 5), np.float32))).all()
    shape = (1, 5) if axis else (4, 1)
    np.testing.assert_array_equal(method.mask(share, np.ones((4, 5), np.float32)), np.full(shape, share))


def test_shares_of_masks_on_the_magnitude_are_matched(
    tiny_model: L2I, sounds: list[tuple[np.ndarray, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    constant: Any = EXPLAINERS["constant"]
    matched = constant(tiny_model.network, 0.5)
    monkeypatch.setattr(matched, "domain", "magnitude")
    shares = [
        [found.kept_share for found in judge(tiny_model.network, method.explain(sounds))]
        for method in (matched, constant(tiny_model.network, matched))
    ]
    assert min(shares[0]) > 0.55
    np.testing.assert_allclose(shares[0], shares[1], rtol=1e-4)
