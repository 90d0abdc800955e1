"""Localisation in time, against cases computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from l2i_fast.metrics.localization import localization, opening

from .support import result_of


def burst(*spans: tuple[float, float], level: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    y = np.zeros(8000, np.float32)
    for start, end in spans:
        y[int(8000 * start) : int(8000 * end)] = level * rng.standard_normal(int(8000 * end) - int(8000 * start))
    return y


def test_the_right_second_kept() -> None:
    found = localization(result_of(burst((0.25, 0.5)), np.float32(1)), [(0.25, 0.5)])
    assert found.iou > 0.85  # frames of 32 ms at the edges
    assert found.recall == 1
    assert found.event_f1 == 1
    assert found.pointing == 1


def test_half_of_what_is_kept_lies_outside() -> None:
    found = localization(result_of(burst((0.25, 0.75)), np.float32(1)), [(0.25, 0.5)])
    assert found.precision == pytest.approx(0.5, abs=0.05)
    assert found.recall == 1
    assert found.f1 == pytest.approx(2 / 3, abs=0.05)
    assert found.iou == pytest.approx(0.5, abs=0.05)


def test_the_wrong_moment_kept() -> None:
    found = localization(result_of(burst((0.25, 0.5)), np.float32(1)), [(0.6, 0.9)])
    assert found == (0, 0, 0, 0, 0, 0)


def test_one_of_two_events_found_and_one_invented() -> None:
    y = burst((0.1, 0.2), (0.7, 0.9))
    found = localization(result_of(y, np.float32(1)), [(0.1, 0.2), (0.4, 0.5)])
    assert found.event_f1 == pytest.approx(2 * 1 / (2 + 2))


def test_frames_more_than_30_dB_softer_are_not_kept() -> None:
    loud, soft = burst((0.1, 0.2)), burst((0.5, 0.9), level=0.01)
    assert localization(result_of(loud + soft, np.float32(1)), [(0.08, 0.22)]).precision == 1
    audible = burst((0.5, 0.9), level=0.08)
    assert localization(result_of(loud + audible, np.float32(1)), [(0.1, 0.2)]).precision < 0.5


def test_nothing_kept() -> None:
    assert localization(result_of(burst((0.1, 0.2)), np.float32(0)), [(0.1, 0.2)]) == (0, 0, 0, 0, 0, 0)


def test_half_an_event_is_enough_to_find_it() -> None:
    y = burst((0.2, 0.4))
    assert localization(result_of(y, np.float32(1)), [(0.2, 0.58)]).event_f1 == 1
    assert localization(result_of(y, np.float32(1)), [(0.2, 0.7)]).event_f1 == 0


def test_an_event_found_in_two_pieces_counts_once() -> None:
    y = burst((0.1, 0.45), (0.72, 0.77))
    found = localization(result_of(y, np.float32(1)), [(0.1, 0.77)])
    assert found.event_f1 == pytest.approx(2 * 1 / (2 + 1))
    assert found.recall == pytest.approx(0.4 / 0.67, abs=0.06)


@pytest.mark.parametrize(("pause", "bridged"), [(0.15, True), (0.3, False)])
def test_short_pauses_are_part_of_a_sound(pause: float, bridged: bool) -> None:
    y = burst((0.1, 0.3), (0.3 + pause, 0.5 + pause))
    found = localization(result_of(y, np.float32(1)), [(0.1, 0.5 + pause)])
    assert (found.recall == 1) == bridged
    assert (found.event_f1 == 1) == bridged


def test_what_is_kept_counts_and_not_what_sounds() -> None:
    y = burst((0.1, 0.3), (0.6, 0.8))
    times = np.arange(126) * 64 / 8000
    first = (times < 0.45).astype(np.float32)
    found = localization(result_of(y, first), [(0.1, 0.3)])
    assert found.iou > 0.85
    assert localization(result_of(y, 1 - first), [(0.1, 0.3)]).pointing == 0


def test_the_mask_opens_around_an_event() -> None:
    y, T = burst((0, 1)), 126  # frames of 64 samples: 8 ms
    mask = np.full((129, T), 0.1, np.float32)
    mask[:64, 30:40] = 0.4  # means of about 0.25, over half of the peak
    mask[:64, 35] = 0.8
    mask[:, 80] = 0.3
    result = result_of(y, mask)
    assert opening(result, [(0.28, 0.29)]) == pytest.approx(10 * 0.008)
    assert opening(result, [(0.64, 0.65)]) == pytest.approx(0.008)
    assert opening(result, [(0.28, 0.29), (0.64, 0.65), (0.63, 0.64)]) == pytest.approx(0.008)
    assert opening(result_of(y, np.float32(0.3)), [(0.5, 0.51)]) == pytest.approx(T * 0.008)
    assert np.isnan(opening(result_of(y, np.float32(0)), [(0.5, 0.51)]))
    assert opening(result_of(y, mask, "wiener"), [(0.28, 0.29)]) == pytest.approx(0.008)  # 0.4 lets little through
