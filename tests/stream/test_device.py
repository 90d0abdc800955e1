"""Streams of a device against StreamDecoder: in torch, in CUDA C++ emulated on the CPU, and on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from l2i_fast import reference
from l2i_fast.settings import DOMAINS
from l2i_fast.stream import StreamDecoder
from l2i_fast.stream.device import DeviceStreams

from ..backends.cuda import emulation
from ..helpers import missing, refused, relative

#: Frame length, hop, components: hops that divide half a frame and that do not, from one sample to a whole frame; every
#: tail of K, more components than threads, and the usual.
SHAPES = [
    (32, 8, 3),
    (32, 1, 2),
    (32, 16, 600),
    (64, 20, 1),
    (64, 50, 6),
    (128, 128, 17),
    (256, 100, 130),
    (512, 256, 31),
    (1024, 512, 100),
]


ENGINES = ["torch", "on_a_gpu", *(f"emulated {x}" for x in ("1 shuffled", "2 forward", "4 backward", "8 shuffled"))]


@pytest.fixture(params=ENGINES)
def engine(request, device, monkeypatch):
    """The engine of the hops: torch, the kernels on a GPU, or an emulation with 1, 2, 4 or 8 streams in a block."""
    name, *how = request.param.split()
    if name != "emulated":
        serves = "torch" if name == "torch" else "cuda"
        if reason := missing(serves, device):
            pytest.skip(reason)
        monkeypatch.setenv("L2I_BACKEND", serves)
        return device
    rows, order = how
    emulation.install(monkeypatch, int(rows), order)
    return torch.device("cpu")


def dictionary(rng, n_fft, K):
    return rng.uniform(0.01, 1, (n_fft // 2 + 1, K)).astype(np.float32)


def signals(rng, n, size):
    """Noise whose level goes up and down, with a silence, each louder than the one before."""
    y = rng.standard_normal((n, size)) * np.exp(2 * np.sin(np.arange(size) / 700)) * 2.0 ** np.arange(n)[:, None]
    y[:, size // 3 : size // 2] = 0
    return (0.1 * y).astype(np.float32)


def soft(rng, n, K):
    weights = rng.random((n, K), np.float32) * (rng.random((n, K)) < 0.5)
    weights[:, 0] = 0.75
    return weights.astype(np.float32)


class Both:
    """Streams of a device, and one StreamDecoder for each."""

    def __init__(self, engine, W, n, hop, **settings):
        self.ours = DeviceStreams(W, n, hop, device=engine, **settings)
        self.theirs = [StreamDecoder(W, hop, **settings) for _ in range(n)]
        self.tensor = lambda x: torch.as_tensor(x, device=engine)
        self.hop = hop

    def push(self, y, H=None):
        """All hops of signals (n, m); H (n, K, hops) by push."""
        ours, theirs = [], [[] for _ in self.theirs]
        for i in range(y.shape[1] // self.hop):
            block = np.ascontiguousarray(y[:, i * self.hop : (i + 1) * self.hop])
            h = None if H is None else np.ascontiguousarray(H[:, :, i])
            ours.append(self.ours.push(self.tensor(block), None if h is None else self.tensor(h)).cpu().numpy())
            for s, stream in enumerate(self.theirs):
                n = stream.frames_in(self.hop)
                theirs[s].append(stream.push(block[s], None if h is None else h[s, :, None][:, :n]))
        return np.concatenate(ours, 1), np.stack([np.concatenate(x) for x in theirs])


def held(answers, n_fft, hop):
    """Samples with enough window energy: elsewhere a rounding error is divided by almost zero."""
    out, n = [], answers[0].shape[1]
    squares = np.zeros(n + n_fft)
    for t in range(n // hop + 1):
        squares[t * hop : t * hop + n_fft] += np.hanning(n_fft + 1)[:-1] ** 2
    keep = np.concatenate([np.ones(n_fft, bool), squares[n_fft // 2 :] > 0.01])[:n]
    for x in answers:
        out.append(x[:, keep])
    return out


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(("n_fft", "hop", "K"), SHAPES)
def test_a_row_equals_a_stream(engine, rng, n_fft, hop, K, domain):
    n = 5
    both = Both(engine, dictionary(rng, n_fft, K), n, hop, n_iter=3, domain=domain, eps=1e-3)
    both.ours.weights = weights = soft(rng, n, K)
    both.ours.scale = scale = rng.uniform(0.2, 2, n).astype(np.float32)
    for stream, w, s in zip(both.theirs, weights, scale, strict=True):
        stream.weights, stream.scale = w, float(s)
    ours, theirs = both.push(signals(rng, n, n_fft + 12 * hop))
    assert both.ours.latency == n_fft
    assert not ours[:, :n_fft].any()
    assert theirs.any()
    for a, b in zip(*held((ours, theirs), n_fft, hop), strict=True):
        assert relative(a, b) < 1e-5
    assert both.ours.hops.tolist() == [stream.hops for stream in both.theirs]
    for h, stream in zip(both.ours.activations, both.theirs, strict=True):
        assert relative(h, stream.activations) < 1e-4


@pytest.mark.parametrize(("n_fft", "hop", "K"), SHAPES)
def test_given_activations(engine, rng, n_fft, hop, K):
    y, n = signals(rng, 3, n_fft + 8 * hop), 3
    H = (rng.random((n, K, y.shape[1] // hop)) * (rng.random((n, K, 1)) < 0.7)).astype(np.float32)
    H[:, 0] = 0.5
    both = Both(engine, dictionary(rng, n_fft, K), n, hop, eps=1e-3)
    ours, theirs = both.push(y, H)
    assert theirs.any()
    for a, b in zip(*held((ours, theirs), n_fft, hop), strict=True):
        assert relative(a, b) < 1e-5


def test_the_definition(engine, rng):
    """Against float64, without StreamDecoder."""
    W, weights, y = dictionary(rng, 128, 9), soft(rng, 2, 9), signals(rng, 2, 64 * 20)
    ours = DeviceStreams(W, 2, 64, device=engine)
    ours.weights, ours.scale = weights, 0.3
    tensor = torch.as_tensor(y, device=engine)
    out = torch.cat([ours.push(tensor[:, i : i + 64].contiguous()) for i in range(0, y.shape[1], 64)], 1)
    window = np.hanning(129)[:-1]
    for a, x, w in zip(out, y, weights, strict=True):
        exact = reference.stream(x, W, window, 64, w, scale=0.3)[: x.size]
        assert relative(a, exact) < 1e-4


def test_masks_fade(engine, rng):
    """At any time, row by row: from ones, from silence, in the middle of a fade, with and without a start."""
    n, K, hop = 4, 6, 32
    both = Both(engine, dictionary(rng, 128, K), n, hop, n_iter=2, eps=1e-3)
    weights, scale = np.ones((n, K), np.float32), np.ones(n, np.float32)
    for turn in range(12):
        changed = rng.random(n) < 0.6
        for s in np.flatnonzero(changed):
            weights[s] = soft(rng, 1, K)[0] * (rng.random() < 0.7)
            scale[s] = rng.uniform(0.1, 3)
            both.theirs[s].weights, both.theirs[s].scale = weights[s], float(scale[s])
        both.ours.weights, both.ours.scale = both.tensor(weights), scale
        if turn in (4, 7, 9):
            start = None if turn == 7 else rng.random((n, K)).astype(np.float32)
            both.ours.start = start
            assert (both.ours.start is None) == (start is None)
            for s, stream in enumerate(both.theirs):
                stream.start = None if start is None else start[s]
        y = signals(rng, n, hop * int(rng.integers(1, 7)))
        ours, theirs = both.push(y)
        if turn:
            assert np.abs(ours - theirs).max() < 2e-5 * max(np.abs(theirs).max(), 0.1)
        for h, stream in zip(both.ours.activations, both.theirs, strict=True):
            assert relative(h, stream.activations) < 1e-4
    np.testing.assert_array_equal(both.ours.weights.cpu(), weights)
    np.testing.assert_array_equal(both.ours.scale.cpu(), scale)


@pytest.mark.parametrize("which", [None, 1, [0, 2], torch.tensor([True, False, True])])
def test_new_signals(engine, rng, which):
    W, hop = dictionary(rng, 64, 5), 16
    both = Both(engine, W, 3, hop, eps=1e-3)
    both.push(signals(rng, 3, 64 * 5))
    weights = soft(rng, 3, 5)
    both.ours.weights = weights
    for stream, w in zip(both.theirs, weights, strict=True):
        stream.weights = w
    both.push(signals(rng, 3, hop))  # in the middle of the fade
    both.ours.reset(which)
    named = np.zeros(3, bool)
    named[slice(None) if which is None else which] = True
    for s in np.flatnonzero(named):
        both.theirs[s].reset()
        assert not both.ours.activations[s].any()
    ours, theirs = both.push(signals(rng, 3, 64 * 5))
    for a, b in zip(ours, theirs, strict=True):
        assert relative(a, b) < 1e-5


def test_streams_do_not_affect_each_other(engine, rng):
    W, y = dictionary(rng, 64, 5), signals(rng, 11, 64 * 6)
    together, alone = DeviceStreams(W, 11, 32, device=engine), DeviceStreams(W, 11, 32, device=engine)
    tensor = torch.as_tensor(y, device=engine)
    silent = tensor.clone()
    silent[:7] = 0
    silent[8:] = 1e30
    for i in range(0, y.shape[1], 32):
        a = together.push(tensor[:, i : i + 32].contiguous())
        b = alone.push(silent[:, i : i + 32].contiguous())
        np.testing.assert_array_equal(a[7].cpu(), b[7].cpu())


def test_extreme_magnitudes_give_finite_sound(engine, rng):
    """Silence, denormals and magnitudes close to overflow."""
    W = dictionary(rng, 64, 5)
    y = np.stack([0 * np.ones(256), 1e-42 * rng.standard_normal(256), 1e15 * rng.standard_normal(256)])
    both = Both(engine, W, 3, 32, eps=1e-3)
    ours, theirs = both.push(y.astype(np.float32))
    assert np.isfinite(ours).all()
    assert not ours[0].any()
    assert relative(ours[2, 96:], theirs[2, 96:]) < 1e-4


def test_out_is_filled(engine, rng):
    ours = DeviceStreams(dictionary(rng, 64, 5), 2, 32, device=engine)
    blocks = torch.as_tensor(signals(rng, 2, 32), device=engine)
    out = torch.full((2, 32), torch.nan, device=engine)
    assert ours.push(blocks, out=out) is out
    assert not out.any()


def test_a_graph_replays(engine, rng):
    W, y = dictionary(rng, 64, 5), torch.as_tensor(signals(rng, 3, 32 * 12), device=engine)
    ours, plain = (DeviceStreams(W, 3, 32, eps=1e-3, device=engine) for _ in range(2))
    if engine.type != "cuda":
        with refused(RuntimeError, "the streams are on cpu, but a graph can be captured on a CUDA device only"):
            ours.capture()
        return
    weights = soft(rng, 3, 5)
    for streams in (ours, plain):
        streams.weights = weights
        streams.push(y[:, :32].contiguous())
    replay = ours.capture()
    for i in range(32, y.shape[1], 32):
        if i == 5 * 32:  # a replay uses values set after the capture
            for streams in (ours, plain):
                streams.weights = weights[::-1].copy()
        replay.blocks.copy_(y[:, i : i + 32])
        expected = plain.push(y[:, i : i + 32].contiguous())
        torch.testing.assert_close(replay.replay(), expected, rtol=1e-5, atol=1e-6)
    assert expected.any()


def test_streams_of_two_sizes_alternate(engine, rng):
    """A small problem does not shrink the shared memory of a large one that uses the same kernel."""
    both = [Both(engine, dictionary(rng, n_fft, 100), 9, n_fft // 2, n_iter=2, eps=1e-3) for n_fft in (1024, 64)]
    for _ in range(2):
        for one in both:
            ours, theirs = one.push(signals(rng, 9, 4 * one.hop))
            assert relative(ours, theirs) < 1e-5


def test_wrong_arguments_are_refused(rng, device):
    W = dictionary(rng, 64, 5)
    ours = DeviceStreams(W, 2, 32, device=device)
    good = torch.zeros(2, 32, device=device)
    for bad, kind, text in [
        (good.cpu().numpy(), TypeError, "blocks is ndarray, but a tensor is needed"),
        (good.double(), TypeError, "blocks is torch.float64 on ..., but torch.float32 on ... is needed"),
        (good[:1], ValueError, "blocks has shape (1, 32), but (2, 32), contiguous, is needed"),
        (good.T.contiguous().T, ValueError, "blocks has shape (2, 32), but (2, 32), contiguous, is needed"),
    ]:
        with refused(kind, text):
            ours.push(bad)
    with refused(ValueError, "H has shape (2, 4), but (2, 5), contiguous, is needed"):
        ours.push(good, torch.zeros(2, 4, device=device))
    with refused(ValueError, "out has shape (2, 31), but (2, 32), contiguous, is needed"):
        ours.push(good, out=torch.zeros(2, 31, device=device))
    assert ours.hops.tolist() == [0, 0]
    with refused(ValueError, "weights has shape (3,), but (2, 5) or (5,) is needed"):
        ours.weights = np.ones(3)
    with refused(ValueError, "weights holds numbers outside [0, 1] or NaN, but all must lie in it"):
        ours.weights = np.full(5, np.nan)
    with refused(ValueError, "scale is 0, but must be positive, and a normal number as float32"):
        ours.scale = 0
    with refused(TypeError, "start has dtype torch.complex64, but real numbers are needed"):
        ours.start = torch.ones(5, dtype=torch.complex64)
    with refused(ValueError, "which has shape (3,), but a mask of shape (2,) is needed"):
        ours.reset(torch.ones(3, dtype=torch.bool))
    with refused(ValueError, "n_streams is 0, but must be at least 1"):
        DeviceStreams(W, 0, 32, device=device)
    with refused(ValueError, "W has shape (30, 5), but (F, K) with F - 1 a power of two from 16 to 32768 is needed"):
        DeviceStreams(W[:30], 2, 32, device=device)
    with refused(ValueError, "hop_length is 65, but must be at most the 64 samples of a frame"):
        DeviceStreams(W, 2, 65, device=device)


def test_a_missing_backend_is_refused(rng, monkeypatch, device):
    if not missing("cuda", device):
        pytest.skip("the CUDA backend can run")
    monkeypatch.setenv("L2I_BACKEND", "cuda")
    with refused(RuntimeError, "L2I_BACKEND is cuda, but the CUDA library ..."):
        DeviceStreams(dictionary(rng, 64, 5), 2, 32, device=device)


def test_order_of_threads_does_not_change_a_bit_emulated(rng, monkeypatch):
    """The same bits in any order of the threads."""
    W, y, weights = dictionary(rng, 256, 21), torch.tensor(signals(rng, 3, 1000)), soft(rng, 3, 21)
    answers = []
    for order in emulation.ORDERS:
        emulation.install(monkeypatch, 4, order)
        ours = DeviceStreams(W, 3, 100, device="cpu")
        ours.weights = weights
        answers.append(torch.cat([ours.push(block.contiguous()) for block in y.split(100, 1)], 1))
    for other in answers[1:]:
        torch.testing.assert_close(other, answers[0], rtol=0, atol=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is present")
def test_an_unknown_device_is_refused():
    W = np.ones((33, 3), np.float32)
    with refused(ValueError, "device is 'cuda', but torch ..."):
        DeviceStreams(W, 2, 32)
    with refused(ValueError, "device is 'meta', but must be 'cpu', 'cuda' or 'cuda:' and a number"):
        DeviceStreams(W, 2, 32, device="meta")


def test_streams_made_in_inference_mode_go_on_outside(rng):
    with torch.inference_mode():
        streams = DeviceStreams(rng.random((33, 3)), 2, hop_length=16, device="cpu")
        expected = DeviceStreams(rng.random((33, 3)), 2, hop_length=16, device="cpu").push(torch.zeros(2, 16))
    streams.weights = np.full(3, 0.5)
    streams.reset([1])
    assert torch.equal(streams.push(torch.zeros(2, 16)), expected)
