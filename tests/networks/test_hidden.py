"""Layers that return several tensors or run several times, and networks that return more than scores."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from l2i_fast.networks.hidden import HiddenMaps, find_map, find_scores, run_watched

from ..helpers import refused

X = torch.randn(2, 12, generator=torch.Generator().manual_seed(0))


class Named(NamedTuple):
    states: Tensor
    length: int


@dataclass
class Output:
    loss: Tensor | None
    logits: Tensor
    hidden_states: tuple[Tensor, ...]


class Returns(nn.Module):
    """Returns what a function makes of its input."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Any:
        return self.make(x)


class Parts(nn.Module):
    """Layers with outputs of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 4, batch_first=True, bidirectional=True)
        self.relu = nn.ReLU()
        self.named = Returns(lambda x: Named(x + 1, 3))
        self.mapping = Returns(lambda x: OrderedDict(mean=x.mean((1, 2)), last_hidden_state=x + 2, more=[x + 3, x + 4]))
        self.record = Returns(lambda x: Output(None, x[:, 0], (x + 5, x + 6)))
        self.flat = Returns(lambda x: (torch.ones(2, 3, 4, dtype=torch.int64), x[:, 0]))
        self.nothing = Returns(lambda x: (None, "text"))

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(x[:, :, None])
        y = self.relu(self.relu(y) - 0.1)
        for part in (self.named, self.mapping, self.record, self.flat, self.nothing):
            part(y)
        return y.mean(1)


@pytest.fixture(scope="module")
def parts() -> Parts:
    torch.manual_seed(0)
    return Parts()


def maps(network: nn.Module, *layers: str, x: Any = X) -> list[Tensor]:
    with torch.no_grad():
        return HiddenMaps(network, layers)(x)[1]


def test_elements_are_found_by_default_and_by_name(parts: Parts) -> None:
    with torch.no_grad():
        states, last = parts.gru(X[:, :, None])
        first = torch.relu(states)
        second = torch.relu(first - 0.1)
    expected = {
        "gru": states,
        "gru[0]": states,
        "gru[1]": last,
        "gru[-1]": last,
        "relu#0": first,
        "relu#1": second,
        "named": second + 1,
        "named[states]": second + 1,
        "mapping": second + 2,
        "mapping[mean]": second.mean((1, 2)),
        "mapping[more]": second + 3,
        "mapping[more][1]": second + 4,
        "mapping#0[more][-1]": second + 4,
        "record": second + 5,
        "record[hidden_states][1]": second + 6,
        "record[logits]": second[:, 0],
        "": second.mean(1),
    }
    for name, found, wanted in zip(expected, maps(parts, *expected), expected.values(), strict=True):
        assert torch.equal(found, wanted), name
    found = maps(parts, "relu#1", "gru", "relu#1")
    assert torch.equal(found[0], second)
    assert torch.equal(found[2], second)
    integers, _ = maps(parts, "flat", "flat[1]")
    assert integers.dtype == torch.int64  # the first one: none is of floating point with a third dimension


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("relu", "layers names 'relu', but 'relu' runs 2 times in a pass: write 'relu#0' to 'relu#1'"),
        ("relu#2", "layers names 'relu#2', but 'relu' runs 2 times in a pass: write 'relu#0' to 'relu#1'"),
        ("gru#1", "layers names 'gru#1', but 'gru' runs once in a pass: write 'gru#0'"),
        ("gru#1[0]", "layers names 'gru#1[0]', but 'gru' runs once in a pass: write 'gru#0[0]'"),
        ("gru[2]", "layers names 'gru[2]', but a tuple has the elements 0, 1"),
        ("gru[-3]", "layers names 'gru[-3]', but a tuple has the elements 0, 1"),
        ("gru[0][1]", "layers names 'gru[0][1]', but a tensor of shape (2, 12, 8) has no elements"),
        ("mapping[x]", "layers names 'mapping[x]', but an OrderedDict has the elements mean, last_hidden_state, more"),
        ("nothing", "the layer 'nothing' returns a tuple, but a tensor is needed"),
        ("record[loss]", "the layer 'record[loss]' returns None, but a tensor is needed"),
    ],
)
def test_what_does_not_exist_is_named(parts: Parts, layer: str, message: str) -> None:
    with refused(ValueError, message):
        maps(parts, layer)
    assert not any(module._forward_hooks for module in parts.modules())


@pytest.mark.parametrize("layer", ["x", "gru[", "gru#", "gru#x", "gru[]", "gru[0]#1", "gru[0]x", "x#0", "x[0]"])
def test_names_of_no_layer_are_refused(parts: Parts, layer: str) -> None:
    known = "flat, gru, mapping, named, nothing, record, relu"
    with refused(ValueError, f"layers names {layer!r}, but must name submodules of the network: {known}"):
        HiddenMaps(parts, [layer])


def test_a_submodule_may_have_a_name_that_looks_like_an_element() -> None:
    network = nn.Sequential(OrderedDict({"a": nn.Flatten(), "a[0]": nn.Linear(12, 3), "a#1": nn.ReLU()}))
    a, b, c, d = maps(network, "a", "a[0]", "a#1", "a#1#0")
    assert torch.equal(a, X)
    assert b.shape == (2, 3)
    assert torch.equal(c, b.relu())
    assert torch.equal(d, c)


def test_only_the_layers_that_run_are_there() -> None:
    class Forks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loud, self.quiet = nn.Linear(12, 3), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.loud(x) if x.abs().max() > 1 else self.quiet(x)
            for _ in range(int(x[0, 0])):
                y = self.quiet(x)
            return y

    network = Forks()
    (loud,) = maps(network, "loud", x=torch.full((1, 12), 2.0))
    assert loud.shape == (1, 3)
    with refused(ValueError, "layers names 'loud', but must name submodules that the network runs"):
        maps(network, "loud", x=torch.zeros(1, 12))
    with refused(ValueError, "layers names 'quiet', but 'quiet' runs 3 times in a pass: write ... to 'quiet#2'"):
        maps(network, "quiet", x=torch.full((1, 12), 3.0))
    assert len(maps(network, "quiet#0", "quiet#2", x=torch.full((1, 12), 3.0))) == 2


@pytest.mark.parametrize(
    ("make", "scores"),
    [
        (lambda y: y, lambda y: y),
        (lambda y: y[:, :, None], lambda y: y[:, :, None]),  # whoever reads it says what is needed
        (lambda y: (y[:, :, None], y, y + 1), lambda y: y),
        (lambda y: [y.long(), y + 1], lambda y: y + 1),
        (lambda y: {"embedding": y, "logits": y + 1}, lambda y: y + 1),
        (lambda y: {"embedding": y, "logits": y[:, 0]}, lambda y: y),
        (lambda y: {"outer": {"inner": [y[0], y]}}, lambda y: y),
        (lambda y: Output(y.mean(), y, (y + 1,)), lambda y: y),
        (lambda y: Named(y, 3), lambda y: y),
    ],
)
def test_scores_are_found_in_what_the_network_returns(
    make: Callable[[Tensor], Any], scores: Callable[[Tensor], Tensor]
) -> None:
    network = nn.Sequential(nn.Linear(12, 3), Returns(make))
    with torch.no_grad():
        found, (y,) = HiddenMaps(network, ["0"])(X)
    assert torch.equal(found, scores(y))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [((torch.zeros(2, 3, 4), 1), "a tuple"), ({"a": torch.zeros(3)}, "a dict"), (None, "None"), ([], "[]")],
)
def test_answers_without_scores_are_named(answer: Any, kind: str) -> None:
    with refused(ValueError, f"the network returns {kind}, but logits of shape (B, C) are needed"):
        find_scores(answer)


def test_names_of_elements_in_messages_are_those_that_the_user_wrote() -> None:
    with refused(ValueError, "layers names 'layer', but a list has the elements 0"):
        find_map([X], ["1"])


def test_inputs_may_be_arrays_and_come_by_name() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(12, 3)

        def forward(self, input_values: Tensor, mask: Tensor) -> Tensor:
            y: Tensor = self.layer(input_values * mask)
            return y

    network = Two()
    mask = torch.zeros(2, 12)
    mask[:, :6] = 1
    with torch.no_grad():
        wanted = network.layer(X * mask)
    for x in ({"mask": mask, "input_values": X}, {"mask": mask.numpy(), "input_values": X.numpy()}):
        assert torch.equal(maps(network, "layer", x=x)[0], wanted)
    assert torch.equal(maps(network.layer, "", x=X.numpy())[0], maps(network.layer, "", x=X)[0])


def test_modules_report_in_the_order_in_which_they_return(parts: Parts) -> None:
    seen: list[tuple[str, int]] = []
    modules = dict(parts.named_modules())
    with torch.no_grad():
        run_watched(parts.train(), X, modules, lambda name, run, _: seen.append((name, run)))
    runs = [("gru", 0), ("relu", 0), ("relu", 1)]
    assert seen == [*runs, *((name, 0) for name in ("named", "mapping", "record", "flat", "nothing", ""))]
    assert parts.training


def test_hooks_do_not_outlive_an_error(parts: Parts) -> None:
    def fail(name: str, _run: int, _output: Any) -> None:
        raise KeyError(name)

    with pytest.raises(KeyError):
        run_watched(parts, X, dict(parts.named_modules()), fail)
    with pytest.raises(AttributeError):
        run_watched(parts, X, {"gru": parts.gru, "no module": None}, fail)  # type: ignore[dict-item]
    assert not any(module._forward_hooks for module in parts.modules())


def test_threads_count_their_own_runs(parts: Parts) -> None:
    hidden = HiddenMaps(parts, ["relu#0", "gru[1]", "relu#1"])
    inputs = [torch.from_numpy(np.random.default_rng(i).standard_normal((2, 200)).astype(np.float32)) for i in range(8)]
    expected = [hidden(x) for x in inputs]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            for (scores, found), (wanted, others) in zip(threads.map(hidden, inputs), expected, strict=True):
                torch.testing.assert_close(scores, wanted)
                for a, b in zip(found, others, strict=True):
                    torch.testing.assert_close(a, b)
    assert not any(module._forward_hooks for module in parts.modules())
