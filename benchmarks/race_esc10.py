"""Solvers of l2i.NMF against scikit-learn's multiplicative updates, precisions, and learn_dictionary, on recordings.

Usage: OMP_NUM_THREADS=1 python benchmarks/race_esc10.py DATA      (a folder in ESC-50's layout)
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

import l2i_fast as l2i
from l2i_fast.backends.precision import Precision
from l2i_fast.data import Clip, Dataset, load_dataset

RACERS = {"frobenius": ("hals", "newton"), "kullback-leibler": ("newton",)}


def log_magnitudes(dataset: Dataset, clip: Clip) -> NDArray[np.float32]:
    """V (F, T) of a clip scaled by its peak."""
    y = dataset.audio(clip, 44100)
    V: NDArray[np.float32] = l2i.analyze(y / max(float(np.abs(y).max()), 1e-9)).V
    return V


def seconds(run: Callable[[], object], repeats: int = 3) -> float:
    """The least of some times."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def race(V: NDArray[np.float32]) -> None:
    """Time to the objective that scikit-learn's "mu" has after 200 iterations."""
    settings = {"n_components": 100, "init": "random", "random_state": 0, "tol": 0}
    for loss, solvers in RACERS.items():
        theirs = NMF(solver="mu", beta_loss=loss, max_iter=200, **settings)
        their_time = seconds(lambda model=theirs: model.fit(V))
        print(f"{loss}: scikit-learn, 200 iterations of mu: {their_time:.2f} s")
        for solver in solvers:
            for n in range(1, 200):
                ours = l2i.NMF(solver=solver, beta_loss=loss, max_iter=n, **settings)
                if ours.fit(V).reconstruction_err_ <= theirs.reconstruction_err_:
                    break
            our_time = seconds(lambda model=ours: model.fit(V))
            print(f"  {solver}: {n} iterations, {our_time:.3f} s, {their_time / our_time:.1f} times as fast")


def precisions(V: NDArray[np.float32]) -> None:
    """Where 200 multiplicative iterations end with products of bfloat16, and how long they take."""
    settings = {"n_components": 100, "init": "random", "random_state": 0, "tol": 0, "max_iter": 200}
    for loss in ("frobenius", "kullback-leibler"):
        ends = {}
        for precision in get_args(Precision):
            l2i.set_cpu_precision(precision)
            nmf = l2i.NMF(solver="mu", beta_loss=loss, **settings)
            took = seconds(lambda nmf=nmf: nmf.fit(V))
            ends[precision] = nmf.reconstruction_err_**2  # twice the divergence
            above = ends[precision] / ends["float32"] - 1
            print(f"{loss}, {precision}: {took:.2f} s, objective {above:+.1e} of float32's")
    l2i.set_cpu_precision("float32")


def main(data: Path) -> None:
    """Race on the first clip of each class; then a dictionary of the first 240 clips."""
    dataset = load_dataset(data)
    first = {clip.labels: clip for clip in reversed(dataset.clips)}
    V = np.hstack([log_magnitudes(dataset, clip) for clip in first.values()])
    print(f"{len(first)} clips, V {V.shape}")
    warnings.simplefilter("ignore", ConvergenceWarning)
    l2i.set_num_threads(1)
    race(np.ascontiguousarray(V.T))
    precisions(np.ascontiguousarray(V.T))
    clips = [log_magnitudes(dataset, clip) for clip in dataset.clips[:240]]
    for n in (1, 2):
        l2i.set_num_threads(n)
        took = seconds(lambda: l2i.learn_dictionary(clips, 100, max_iter=150), 1)
        print(f"learn_dictionary, {sum(v.shape[1] for v in clips):,} frames, {n} threads: {took:.1f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
