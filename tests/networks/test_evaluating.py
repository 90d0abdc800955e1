"""Networks run in evaluation mode whatever mode their owner has set, and stay as their owner made them."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from l2i_fast.model import L2I, LogMel, TorchNetwork
from l2i_fast.networks.evaluating import evaluating
from l2i_fast.networks.hidden import HiddenMaps
from l2i_fast.settings import Analysis
from l2i_fast.stream import Stream

from ..conftest import make_model
from ..helpers import refused


class Noisy(nn.Module):
    """A network of which dropout and batch normalisation change every answer, unless it is set to evaluation."""

    def __init__(self, n_classes: int = 4) -> None:
        super().__init__()
        self.maps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(1, n, 3, padding=1), nn.BatchNorm2d(n), nn.Dropout(0.5), nn.AvgPool2d(2**k))
            for k, n in ((3, 8), (4, 16), (5, 32))
        )
        self.unused = nn.Linear(2, 2)
        self.out = nn.Linear(56, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x / 60
        logits: Tensor = self.out(torch.cat([layer(x).mean((2, 3)) for layer in self.maps], 1))
        return logits


LAYERS = ("maps.0", "maps.1", "maps.2")


@pytest.fixture
def model() -> L2I:
    """A model of a network that its owner goes on training."""
    interpreter = make_model().interpreter
    network = Noisy()
    return L2I(TorchNetwork(network, LogMel(Analysis()), ["a", "b", "c", "d"], LAYERS), interpreter)


def modes(module: nn.Module) -> list[bool]:
    return [one.training for one in module.modules()]


def test_answers_do_not_change_with_the_owners_mode(model: L2I, rng: np.random.Generator) -> None:
    clip = rng.standard_normal(70000).astype(np.float32), 44100
    expected = model.interpret(clip)
    assert isinstance(model.network, TorchNetwork)
    network = model.network.module
    network.train()
    model.interpreter.train()
    network.get_submodule("maps.1").eval()  # modes of parts are kept, too
    before, statistics = modes(network), {name: x.clone() for name, x in network.named_buffers()}
    for _ in range(2):
        result = model.interpret(clip)
        np.testing.assert_array_equal(result.audio, expected.audio)
        np.testing.assert_array_equal(result.probabilities, expected.probabilities)
    assert modes(network) == before
    assert all(modes(model.interpreter))
    for name, x in network.named_buffers():
        assert torch.equal(x, statistics[name])


def test_an_incremental_stream_does_not_change_with_the_interpreters_mode(rng: np.random.Generator) -> None:
    model = make_model(streamable=True)
    y = rng.standard_normal(90000).astype(np.float32)

    def relevance(stream: Stream) -> np.ndarray:
        with stream:
            stream.push(y)
            return stream.relevance

    streams = [model.stream(mode="synchronous") for _ in range(2)]
    expected = relevance(streams[0])
    model.interpreter.train()
    np.testing.assert_array_equal(relevance(streams[1]), expected)
    np.testing.assert_array_equal(relevance(model.stream(mode="synchronous")), expected)
    assert all(modes(model.interpreter))


def test_the_mode_is_given_back_by_the_last_thread_and_after_an_error() -> None:
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2))
    inside, leave = threading.Barrier(2), threading.Event()

    def run() -> list[bool]:
        with evaluating(network):
            inside.wait(60)
            leave.wait(60)
            return modes(network)

    @evaluating(network)
    def fail() -> None:
        inside.wait(60)
        raise KeyError

    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(run)
        with pytest.raises(KeyError):
            fail()
        assert not any(modes(network))  # the other thread still runs it
        leave.set()
        assert not any(other.result())
    assert all(modes(network))


def test_a_network_has_hooks_only_while_it_runs() -> None:
    network = Noisy()
    hidden = HiddenMaps(network, LAYERS)
    expected = hidden(torch.ones(1, 1, 64, 64))[1]
    seen = []
    handle = network.out.register_forward_hook(lambda *_: seen.append(len(network.maps[0]._forward_hooks)))
    again = hidden(torch.ones(1, 1, 64, 64))[1]
    handle.remove()
    assert seen == [1]
    assert all(torch.equal(a, b) for a, b in zip(again, expected, strict=True))
    assert not any(module._forward_hooks for module in network.modules())
    with pytest.raises(RuntimeError):
        hidden(torch.ones(1, 2, 3, 3))
    assert not any(module._forward_hooks for module in network.modules())
    gone = weakref.ref(hidden)
    del hidden
    gc.collect()
    assert gone() is None


def test_threads_that_run_one_network_at_once_keep_their_own_maps(rng: np.random.Generator) -> None:
    network = Noisy().train()
    hidden = HiddenMaps(network, LAYERS)
    inputs = [torch.from_numpy(rng.standard_normal((1, 1, 64, 64)).astype(np.float32)) for _ in range(8)]
    expected = [hidden(x) for x in inputs]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            for (logits, maps), (wanted, others) in zip(threads.map(hidden, inputs), expected, strict=True):
                torch.testing.assert_close(logits, wanted)
                for a, b in zip(maps, others, strict=True):
                    torch.testing.assert_close(a, b)
    assert all(modes(network))
    assert not any(module._forward_hooks for module in network.modules())


def test_a_layer_that_does_not_run_is_refused() -> None:
    with refused(ValueError, "layers names 'unused', but must name submodules that the network runs"):
        HiddenMaps(Noisy(), ["maps.0", "unused"])(torch.ones(1, 1, 64, 64))
