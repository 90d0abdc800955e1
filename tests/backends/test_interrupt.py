"""Signals during native work: Ctrl-C ends it, other handlers run within it, and the engine stays usable."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Each call would last for minutes or more.
PROGRAM = """
import os, signal, threading
import numpy as np
import torch
import l2i_fast as l2i
from l2i_fast import _core
from l2i_fast.backends.native import StreamEngines

rng = np.random.default_rng(0)
V, W = rng.random((257, 300)).astype("f4"), rng.random((257, 20)).astype("f4")
X = l2i.stft(rng.standard_normal(500).astype("f4"), 512, 1)
H, many = rng.random((20, X.shape[1])).astype("f4"), np.ones((2_000_000, 20), "f4")
few = np.broadcast_to(many[:1], (2_000_000, 20))
y = rng.standard_normal(4000).astype("f4")
window = np.hanning(512).astype("f4")
forever = 2**31 - 1

def pool():
    engines = StreamEngines(W, window, 128, forever, "log", 1e-6)
    engines.pool().push([engines.stream() for _ in range(3)], [y] * 3)

def gradient():
    h = torch.from_numpy(H).requires_grad_()
    audio = l2i.decode(X, W, h, torch.from_numpy(many), 1, length=1)
    audio.sum().backward()

def in_one_thread(call):
    def run():
        n = l2i.get_num_threads()
        l2i.set_num_threads(1)
        try:
            call()
        finally:
            l2i.set_num_threads(n)
    return run

calls = {
    "frobenius": lambda: l2i.activations(V, W, n_iter=forever),
    "frobenius alone": in_one_thread(lambda: l2i.activations(V, W, n_iter=forever)),
    "kullback-leibler": lambda: l2i.activations(V, W, 1, n_iter=forever),
    "hals": lambda: l2i.activations(V, W, n_iter=forever // 4, solver="hals"),
    "newton": lambda: l2i.activations(V, W, 1, n_iter=forever, solver="newton"),
    "update of W": lambda: _core.nmf_update(
        W.copy(), np.ones((257, 20)), np.ones((20, 20)), False, 2.0, "mu", 0.0, 0.0, forever, None
    ),
    "NMF": lambda: l2i.NMF(5, max_iter=forever, tol=0).fit(V),
    "stream": lambda: l2i.StreamDecoder(W, 128, n_iter=forever).push(y),
    "pool": pool,
    "decode": lambda: l2i.decode(X, W, H, few, 1, length=2),
    "gradient": gradient,
}
def answers():
    decoder = l2i.StreamDecoder(W, 128)
    return l2i.stft(y), l2i.activations(V, W), l2i.decode(X, W, H, many[0], 1), decoder.push(y, last=True)

def interrupted(call):
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        call()
    finally:
        timer.join()

def denormals_live():
    return bool((np.full(8, 1e-40, "f4") * np.float32(0.5)).all())

before = answers()
for name, call in calls.items():
    try:
        interrupted(call)
    except KeyboardInterrupt:
        print(name)
    assert all(map(np.array_equal, answers(), before)), name

assert denormals_live()

decoder = l2i.StreamDecoder(W, 128, n_iter=20_000)
samples = rng.standard_normal(1_000_000).astype("f4")
try:
    interrupted(lambda: decoder.push(samples))
except KeyboardInterrupt:
    print("block")
hops = decoder.hops
taken = 256 + 128 * (hops - 1)  # the sample that completes the latest frame
again = l2i.StreamDecoder(W, 128, n_iter=20_000)
again.push(samples[:taken])
assert again.hops == hops > 0
assert np.array_equal(decoder.push(samples[taken : taken + 999]), again.push(samples[taken : taken + 999]))
print("rest")

seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append(denormals_live() and np.array_equal(l2i.stft(y), before[0])))
n = 1000
while not seen:
    signal.setitimer(signal.ITIMER_REAL, 0)
    expected = l2i.activations(V, W, n_iter=n)
    signal.setitimer(signal.ITIMER_REAL, 0.15, 0.01)
    assert np.array_equal(l2i.activations(V, W, n_iter=n), expected)
    n *= 2
signal.setitimer(signal.ITIMER_REAL, 0)
assert all(seen)
print("handler")
"""


@pytest.mark.alone
def test_signals_are_handled_during_native_work() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "frobenius",
        "frobenius alone",
        "kullback-leibler",
        "hals",
        "newton",
        "update of W",
        "NMF",
        "stream",
        "pool",
        "decode",
        "gradient",
        "block",
        "rest",
        "handler",
    ]
