"""Windows of a recording: every sample in one, and joins that change nothing where windows agree."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from l2i_fast.archive.windows import Grid, Joined, cut

grids = st.integers(4, 60).flatmap(
    lambda length: st.builds(Grid, st.just(length), st.integers((length + 1) // 2, length - 1))
)


def blocks_of(y: np.ndarray, sizes: int) -> list[np.ndarray]:
    return [y[i : i + sizes] for i in range(0, len(y), sizes)]


@given(grids, st.integers(1, 400), st.integers(1, 90))
def test_windows_stand_on_the_grid_and_leave_nothing_out(grid: Grid, n: int, size: int) -> None:
    y = np.arange(n, dtype=np.float32)
    windows = list(cut(blocks_of(y, size), grid))
    assert [w.number for w in windows] == list(range(grid.count(n)))
    assert [w.start for w in windows] == [grid.start(i, n) for i in range(grid.count(n))]
    for window in windows:
        np.testing.assert_array_equal(window.samples, y[window.start : window.start + grid.length])
    assert windows[-1].start + len(windows[-1].samples) == n


@given(grids, st.integers(1, 400), st.integers(1, 90), st.data())
def test_a_part_of_the_windows_equals_that_part_of_all(grid: Grid, n: int, size: int, data: st.DataObject) -> None:
    y = np.arange(n, dtype=np.float32)
    every = list(cut(blocks_of(y, 7), grid))
    first = data.draw(st.integers(1, max(1, len(every) - 1)))
    last = data.draw(st.integers(first, len(every)))
    before = first - 1  # the last window may begin before its place on the grid
    some = list(cut(blocks_of(y[before * grid.hop :], size), grid, before, last))[1:]
    wanted = every[first : last + 1]
    assert [w[:2] for w in some] == [w[:2] for w in wanted]
    for a, b in zip(some, wanted, strict=True):
        np.testing.assert_array_equal(a.samples, b.samples)


@given(grids, st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_windows_that_agree_join_to_the_recording(grid: Grid, n: int, seed: int) -> None:
    y = np.random.default_rng(seed).standard_normal(n).astype(np.float32)
    joined = Joined(grid)
    parts = [joined.add(window.start, window.samples) for window in cut([y], grid)]
    z = np.concatenate([*parts, joined.finish()])
    np.testing.assert_allclose(z, y, atol=1e-6)


@given(grids, st.integers(1, 400), st.lists(st.floats(-1, 1, width=32), min_size=200, max_size=200))
def test_gains_of_windows_change_no_faster_than_the_ramp(grid: Grid, n: int, gains: list[float]) -> None:
    joined, y = Joined(grid), np.ones(n, np.float32)
    windows = list(cut([y], grid))
    parts = [joined.add(w.start, np.float32(g) * w.samples) for w, g in zip(windows, gains, strict=False)]
    z = np.concatenate([*parts, joined.finish()])[: len(y)]
    steepest = np.diff(grid.ramp, prepend=0, append=1).max()
    assert np.abs(np.diff(z)).max(initial=0) <= 2 * steepest + 1e-5
    assert np.abs(z).max() <= 1 + 1e-6


def test_ramps_of_neighbours_add_up_to_one() -> None:
    for grid in (Grid(10, 9), Grid(220500, 176400)):
        np.testing.assert_allclose(grid.ramp + grid.ramp[::-1], 1, atol=1e-6)
