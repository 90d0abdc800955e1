"""Probabilities at equal shares of the log magnitude."""

from __future__ import annotations

import numpy as np
import pytest

from l2i_fast.evaluation.records import SHARES, curve
from l2i_fast.explainers import EXPLAINERS
from l2i_fast.model import L2I
from l2i_fast.results.masking import apply_mask
from l2i_fast.settings import DOMAINS


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_constant_mask_keeps_the_same_share_of_each_bin(
    domain: str, tiny_model: L2I, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = EXPLAINERS["constant"](tiny_model.network)
    monkeypatch.setattr(method, "domain", domain)
    (result,) = method.explain([(0.1 * rng.standard_normal(20000).astype(np.float32), 44100)])
    judged: list[np.ndarray] = []
    classify = tiny_model.network.classify

    def listen(signals: list[np.ndarray], scales: list[float]) -> np.ndarray:
        judged.extend(signals)
        return classify(signals, scales)

    monkeypatch.setattr(tiny_model.network, "classify", listen)
    found = curve(tiny_model.network, result)
    for i, share in enumerate(SHARES):
        for part, mask in ((judged[i], share), (judged[len(SHARES) + i], 1 - share)):
            expected = apply_mask(result.input, np.full((1, 1), mask, np.float32), {**result.settings, "domain": "log"})
            np.testing.assert_allclose(part, expected, atol=1e-6)
    assert len(found["curve_kept"]) == len(found["curve_removed"]) == len(SHARES)
