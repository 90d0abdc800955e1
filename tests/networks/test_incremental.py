"""Networks that follow a signal: the answer of the ordinary ones on all of it, for a fraction of the work."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import l2i_fast as l2i
from l2i_fast.data import Dataset
from l2i_fast.model import L2I, LogMel, TorchNetwork
from l2i_fast.networks.classifier import Classifier
from l2i_fast.networks.hidden import HiddenMaps
from l2i_fast.networks.incremental import GRID, IncrementalNetwork, State, why_not_incremental
from l2i_fast.networks.interpreter import Interpreter
from l2i_fast.networks.theta import ThetaMax
from l2i_fast.settings import Analysis

from ..helpers import refused

FLOOR = -60.0


def networks(
    theta: str = "attention", width: float = 0.0625, streamable: bool = True
) -> tuple[HiddenMaps, Interpreter]:
    """Random networks whose answers vary as much as their input does."""
    classifier = Classifier(5, width=width, embedding=32).eval()
    classifier.mean.fill_(-30.0)
    classifier.std.fill_(10.0)
    interpreter = Interpreter(
        torch.rand(513, 9), 5, classifier.hidden_channels, theta, width=width, streamable=streamable
    ).eval()
    for part in (classifier, interpreter.psi, interpreter.theta):
        for weight in part.parameters():
            if weight.ndim > 1:  # so that what changes at the first layer is still seen at the last
                torch.nn.init.kaiming_normal_(weight)
    fused = classifier.fused()
    for network in (fused, interpreter):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return HiddenMaps(fused, Classifier.layers), interpreter


def noise(rng: np.random.Generator, *shape: int) -> Tensor:
    """Features (..., frames, 128) whose level changes from frame to frame."""
    x = rng.normal(-30, 10, (*shape, 128)) + rng.normal(0, 10, (*shape, 1))
    return torch.from_numpy(x.astype(np.float32))


@torch.inference_mode()
def ordinary(hidden: HiddenMaps, interpreter: Interpreter, x: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, z and H by the ordinary modules on all of `x` (frames, 128), for a window from frame `start` on."""
    n = len(x)
    x = torch.cat((x, torch.full((max(0, 128 - n), 128), FLOOR)))
    _, maps = hidden(x[None, None])
    net = hidden.network
    assert isinstance(net, Classifier)
    embedding = net.embed(net.top(net.pool(maps[2])))[:, :, start // 64 :]
    H = interpreter.psi(maps, len(x))[:, :, start:n]
    return net.out(embedding.amax((2, 3)))[0], interpreter.theta(H)[0][0], H[0]


def apart(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).norm() / b.norm())


def assert_equal(got: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    for a, b in zip(got, wanted, strict=True):
        assert apart(a, b) < 1e-5


def answer(network: IncrementalNetwork, state: State, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    logits, z = network.advance([state], x[None])
    assert state.activations is not None
    return logits[0], z[0], state.activations


@pytest.mark.parametrize(
    ("theta", "width", "window"),
    [("attention", 0.0625, 431), ("max", 0.0625, 200), ("attention", 0.25, 128), ("max", 0.5, 320)],
)
def test_the_stream_equals_the_networks_on_the_whole_signal(
    theta: str, width: float, window: int, rng: np.random.Generator
) -> None:
    hidden, interpreter = networks(theta, width)
    network = IncrementalNetwork(hidden.network, hidden.layers, interpreter, window, FLOOR)
    x = noise(rng, 1500)
    state = network.begin()
    n = 0
    while n < 1300:
        m = int(rng.integers(1, 101))
        got = answer(network, state, x[n : n + m])
        n += m
        start = max(0, n - window) // GRID * GRID
        assert_equal(got, ordinary(hidden, interpreter, x[:n], start))
        first = network.first_frame(n)
        if first and rng.random() < 0.3:
            assert n - network.history <= first <= start - network.margin
            assert_equal(answer(network, network.begin(first), x[first:n]), got)
            assert_equal(ordinary(hidden, interpreter, x[first:n], start - first), got)


def test_frame_by_frame_at_every_place_of_the_grid(rng: np.random.Generator) -> None:
    hidden, interpreter = networks()
    network = IncrementalNetwork(hidden.network, hidden.layers, interpreter, 128, FLOOR)
    x = noise(rng, 1400)
    one, long = network.begin(), network.begin()
    answer(network, long, x[:1250])  # beyond where plans repeat
    for n in range(1, 1400):
        got = answer(network, one, x[n - 1 : n])
        if n > 1250:
            assert_equal(answer(network, long, x[n - 1 : n]), got)
        if n % 7 == 0:
            assert_equal(got, ordinary(hidden, interpreter, x[:n], max(0, n - 128) // GRID * GRID))


@pytest.mark.parametrize("theta", ["attention", "max"])
def test_states_together_equal_each_alone(
    theta: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, interpreter = networks(theta)
    network = IncrementalNetwork(hidden.network, hidden.layers, interpreter, 200, FLOOR)
    x = noise(rng, 6, 1600)
    x[1] = x[0]
    at = [900, 900, 900 + 5 * GRID, 900 + 5 * GRID, 37, 938]  # frames of each signal that its state has had
    first = [0, network.first_frame(900), 0, network.first_frame(900 + 5 * GRID), 0, 0]
    together, alone = ([network.begin(f) for f in first] for _ in range(2))
    for states in (together, alone):
        for i, state in enumerate(states):
            network.advance([state], x[i : i + 1, first[i] : at[i]])
    together_at_once = []
    advance = network._advance
    monkeypatch.setattr(network, "_advance", lambda *given: together_at_once.append(len(given[1])) or advance(*given))
    for n in (22, 1, 60):
        columns = torch.stack([x[i, a : a + n] for i, a in enumerate(at)])
        together_at_once.clear()
        logits, z = network.advance(together, columns)
        assert together_at_once == [4, 1, 1], "those at the same place of the grid"
        at = [a + n for a in at]
        for i, state in enumerate(alone):
            got = (logits[i], z[i], together[i].activations)
            for a, b in zip(got, answer(network, state, columns[i]), strict=True):
                assert a is not None
                assert torch.equal(a, b), "not the same bits"
        assert_equal((logits[1], z[1]), (logits[0], z[0]))  # the same signal, but for what was long before


def test_the_work_does_not_grow_and_is_less_than_a_fresh_start(rng: np.random.Generator) -> None:
    hidden, interpreter = networks()
    network = IncrementalNetwork(hidden.network, hidden.layers, interpreter, 431, FLOOR)
    x = noise(rng, 6000)
    state = network.begin()
    network.advance([state], x[None, :1024])
    work, memory = {}, {}
    for n in range(1024, 5900, 32):
        before = state.computed
        network.advance([state], x[None, n : n + 32])
        work.setdefault(n % GRID, set()).add(state.computed - before)
        held = sum(kept.untyped_storage().nbytes() for kept in state.columns.values())
        memory.setdefault(n % GRID, set()).add(held)
    assert all(len(seen) == 1 for seen in (*work.values(), *memory.values()))
    fresh = network.begin(network.first_frame(5900))
    network.advance([fresh], x[None, fresh.first_frame : 5900])
    assert 3 * max(max(seen) for seen in work.values()) < fresh.computed


def test_threads_with_states_of_their_own(rng: np.random.Generator) -> None:
    hidden, interpreter = networks()
    network = IncrementalNetwork(hidden.network, hidden.layers, interpreter, 128, FLOOR)
    x = noise(rng, 4, 600)

    def run(i: int) -> list[Tensor]:
        state = network.begin()
        return [network.advance([state], x[i : i + 1, n : n + 50])[1] for n in range(0, 600, 50)]

    wanted = [run(i) for i in range(4)]
    got: dict[int, list[Tensor]] = {}
    threads = [threading.Thread(target=lambda i=i: got.update({i: run(i)})) for i in range(4)]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        assert_equal(tuple(got[i]), tuple(wanted[i]))


def test_a_network_that_raises_leaves_the_state_as_it_was(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, interpreter = networks()
    network = IncrementalNetwork(hidden.network, hidden.layers, interpreter, 128, FLOOR)
    x = noise(rng, 700)
    state, undisturbed = network.begin(), network.begin()
    for s in (state, undisturbed):
        answer(network, s, x[:300])
    with monkeypatch.context() as broken:

        def fail(*_: Tensor) -> Tensor:
            raise RuntimeError("broken")

        broken.setattr(type(interpreter.psi), "join", fail)
        with pytest.raises(RuntimeError, match="broken"):
            answer(network, state, x[300:400])
    assert state.frames == 300
    assert_equal(answer(network, state, x[300:400]), answer(network, undisturbed, x[300:400]))


def test_what_cannot_stream_is_named() -> None:
    hidden, interpreter = networks()
    assert why_not_incremental(hidden.network, hidden.layers, interpreter) is None
    _, paper = networks(streamable=False)
    assert "length of the clip" in str(why_not_incremental(hidden.network, hidden.layers, paper))
    other = HiddenMaps(torch.nn.Sequential(torch.nn.Linear(2, 2)), ["0"])
    assert "Sequential" in str(why_not_incremental(other.network, other.layers, interpreter))
    assert "blocks.0" in str(why_not_incremental(hidden.network, ["blocks.0"], interpreter))
    assert "ThetaMax" in str(why_not_incremental(hidden.network, hidden.layers, ThetaMax(3, 2)))
    reason = "the interpreter stretches its maps to the length of the clip; training it with streamable avoids that"
    with refused(ValueError, f"these networks cannot run incrementally: {reason}"):
        IncrementalNetwork(hidden.network, hidden.layers, paper, 431, FLOOR)


def test_bad_use_is_named(rng: np.random.Generator) -> None:
    hidden, interpreter = networks()
    with refused(ValueError, "window_frames is 127, but must be at least 128"):
        IncrementalNetwork(hidden.network, hidden.layers, interpreter, 127, FLOOR)
    network = IncrementalNetwork(hidden.network, hidden.layers, interpreter, 128, FLOOR)
    for first in (-64, 63):
        with refused(ValueError, f"first_frame is {first}, but must be a multiple of 64, 0 or more"):
            network.begin(first)
    state = network.begin()
    for shape in ((1, 0, 128), (2, 5, 128), (1, 5, 64), (5, 128)):
        with refused(ValueError, f"columns has shape {shape}, but (1, n, 128) with n at least 1 is needed"):
            network.advance([state], torch.zeros(shape))
    late = network.begin(640)
    begun = "must begin 192 frames before the window to answer as of frame 900"
    with refused(ValueError, f"a state begins at frame 640, but {begun}"):
        network.advance([late], torch.zeros(1, 260, 128))
    assert late.frames == 0


def test_a_streamable_model_keeps_its_setting_on_disk(tmp_path: Path) -> None:
    _, interpreter = networks()
    config = dict(interpreter.config)
    assert config.pop("streamable") is True
    assert Interpreter(torch.rand(513, 9), **config).psi.streamable is False, "models from before are the paper's"
    classifier = Classifier(5, width=0.0625, embedding=32)
    model = L2I(TorchNetwork(classifier, LogMel(Analysis()), list("abcde")), interpreter)
    again = l2i.load(model.save(tmp_path / "model"))
    assert again.network.why_not_incremental(again.interpreter) is None


def test_the_shipped_model_on_recordings(esc10: Dataset, rng: np.random.Generator) -> None:
    model = l2i.load("esc10")
    hidden = HiddenMaps(model.network.module.fused().to(memory_format=torch.channels_last), model.network.layers)
    network = IncrementalNetwork(hidden.network, hidden.layers, model.interpreter, 431, FLOOR)
    clips = [esc10.audio(esc10.clips[i], model.sample_rate) for i in rng.choice(len(esc10.clips), 5, replace=False)]
    y = np.concatenate([clip / max(1e-6, np.abs(clip).max()) for clip in clips])
    x = torch.from_numpy(l2i.log_mel(y, amin=model.analysis.amin).T.copy())
    state = network.begin()
    n = 0
    while n < 2000:
        m = int(rng.integers(1, 101))
        got = answer(network, state, x[n : n + m])
        n += m
        if rng.random() < 0.2:
            start = max(0, n - 431) // GRID * GRID
            assert_equal(got, ordinary(hidden, model.interpreter, x[:n], start))
    peak = max(1e-6, float(np.abs(clips[0]).max()))
    whole = torch.from_numpy(l2i.log_mel(clips[0] / peak, amin=model.analysis.amin).T.copy())
    with torch.inference_mode():
        logits, H, z, _ = model.hear(whole[None, None], len(whole))
    assert_equal(answer(network, network.begin(), whole), (logits[0], z[0], H[0]))
