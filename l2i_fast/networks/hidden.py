"""A classifier's logits together with the outputs of some of its layers."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from l2i_fast.arguments import shown
from l2i_fast.networks.evaluating import evaluating

#: A module, which of its passes, and elements within its output.
_NAME = re.compile(r"(?P<module>.*?)(#(?P<run>\d+))?(?P<keys>(\[[^\[\]]+\])*)", re.DOTALL)


class HiddenMaps:
    """Runs a network in evaluation mode and collects the outputs of named layers.

    The network has its hooks only while it runs, so nothing of this object stays with it. Outputs are not copied: one
    that a later layer works on in place has the values of that layer.

    Parameters
    ----------
    network : nn.Module
        Any network that returns a tensor of logits, or several tensors of which `find_scores` finds them.
    layers : sequence of str
        Names of submodules, as in ``network.named_modules()``; "" is the network itself. Of a submodule that runs
        several times in a pass, ``"relu#0"`` is the first run, ``"relu#1"`` the second. Of an output of several
        tensors, `find_map` takes one; ``"gru[1]"`` and ``"encoder[hidden_states][3]"`` name an element in lists,
        tuples, mappings and dataclasses, and ``"encoder#0[1]"`` one of the first run.

    Raises
    ------
    ValueError
        A name of no submodule.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        modules = dict(network.named_modules())
        self.network = network
        self.layers = tuple(layers)
        self._places = {name: _place(name, modules) for name in layers}
        self._modules = {place.module: modules[place.module] for place in self._places.values()}

    def __call__(self, x: Any) -> tuple[Tensor, list[Tensor]]:
        """Return the logits of `x` and the maps in the order of `layers`.

        Parameters
        ----------
        x : Tensor, ndarray, or mapping of such
            The network's input; a mapping gives its arguments by name.

        Raises
        ------
        ValueError
            A submodule that does not run, or that runs several times where the name leaves open which run is meant; an
            element that its output does not have; an answer without logits.
        """
        kept: dict[tuple[str, int], Any] = {}
        passes: Counter[str] = Counter()
        wanted = {(place.module, place.run) for place in self._places.values() if place.run is not None}
        latest = {place.module for place in self._places.values() if place.run is None}

        def keep(module: str, count: int, output: Any) -> None:
            passes[module] = count + 1
            if (module, count) in wanted or module in latest:
                kept[module, count] = output

        answer = run_watched(self.network, x, self._modules, keep)
        maps = []
        for name in self.layers:
            place = self._places[name]
            self._check_passes(name, place, passes[place.module])
            maps.append(find_map(kept[place.module, place.run or 0], place.keys, name))
        return find_scores(answer), maps

    @staticmethod
    def _check_passes(name: str, place: _Place, n: int) -> None:
        if not n:
            raise ValueError(f"layers names {name!r}, but must name submodules that the network runs")
        if (place.run is None and n > 1) or (place.run or 0) >= n:
            one = place._replace(run=0).text
            which = f"{one!r}" if n == 1 else f"{one!r} to {place._replace(run=n - 1).text!r}"
            times = "once" if n == 1 else f"{n} times"
            raise ValueError(f"layers names {name!r}, but {place.module!r} runs {times} in a pass: write {which}")


class _Place(NamedTuple):
    """Where an output is found: a module, the number of its run or None for its only one, keys within its output."""

    module: str
    run: int | None
    keys: tuple[str, ...]

    @property
    def text(self) -> str:
        run = "" if self.run is None else f"#{self.run}"
        return self.module + run + "".join(f"[{key}]" for key in self.keys)


def _place(name: str, modules: Mapping[str, nn.Module]) -> _Place:
    if name in modules:
        return _Place(name, None, ())
    found = _NAME.fullmatch(name)
    if found is None or found["module"] not in modules:
        known = ", ".join(sorted(filter(None, modules)))
        raise ValueError(f"layers names {name!r}, but must name submodules of the network: {known}")
    run = None if found["run"] is None else int(found["run"])
    return _Place(found["module"], run, tuple(re.findall(r"\[([^\[\]]+)\]", found["keys"])))


def run_watched(
    network: nn.Module, x: Any, modules: Mapping[str, nn.Module], keep: Callable[[str, int, Any], None]
) -> Any:
    """Run a network in evaluation mode and report the outputs of modules in the order in which they return.

    Parameters
    ----------
    network : nn.Module
    x : Tensor, ndarray, or mapping of such
        Its input; a mapping gives its arguments by name.
    modules : mapping
        Submodules by name; they have hooks only until the network returns or fails.
    keep : callable
        Takes the name, the number of runs of the module before this one, and its output.

    Returns
    -------
    object
        What the network returns.
    """
    caller = threading.get_ident()
    passes: Counter[str] = Counter()

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def take(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if threading.get_ident() == caller:  # other threads may run the same network at once
                keep(name, passes[name], output)
                passes[name] += 1

        return take

    hooks = []
    try:
        for name, module in modules.items():
            hooks.append(module.register_forward_hook(hook(name)))
        with evaluating(network):
            if isinstance(x, Mapping):
                return network(**{name: _tensor(value) for name, value in x.items()})
            return network(_tensor(x))
    finally:
        for handle in hooks:
            handle.remove()


def _tensor(x: Any) -> Any:
    return torch.from_numpy(x) if isinstance(x, np.ndarray) else x


def find_map(output: Any, keys: Sequence[str] = (), name: str = "layer") -> Tensor:
    """Return one tensor of what a layer returns.

    Parameters
    ----------
    output : object
        A tensor, or tuples, lists, mappings and dataclasses of tensors.
    keys : sequence of str
        Indices, keys or names that lead to an element, one after another.
    name : str
        Name of the layer, for errors.

    Returns
    -------
    Tensor
        A tensor as it is; of several, the first of floating point that has at least 3 dimensions, depth first in their
        order, and the first tensor if there is none.

    Raises
    ------
    ValueError
        An element that does not exist, or an output without tensors.
    """
    found = output
    for key in keys:
        elements = _elements(found)
        if key not in elements and re.fullmatch(r"-\d+", key) and isinstance(found, Sequence):
            key = str(len(found) + int(key))
        if key not in elements:
            has = f"the elements {', '.join(elements)}" if elements else "no elements"
            raise ValueError(f"layers names {name!r}, but {_kind(found)} has {has}")
        found = elements[key]
    tensors = list(_tensors(found))
    if not tensors:
        raise ValueError(f"the layer {name!r} returns {_kind(found)}, but a tensor is needed")
    return next((x for x in tensors if x.is_floating_point() and x.ndim >= 3), tensors[0])


def find_scores(answer: Any) -> Tensor:
    """Return the scores in what a network returns.

    Parameters
    ----------
    answer : object
        A tensor, or tuples, lists, mappings and dataclasses of tensors.

    Returns
    -------
    Tensor
        A tensor as it is; of several, the element "logits" if it has shape (B, C), otherwise the first tensor of
        floating point and such a shape, depth first in their order.

    Raises
    ------
    ValueError
        No element has shape (B, C).
    """
    if isinstance(answer, Tensor):
        return answer
    places = [_elements(answer).get("logits"), answer]
    for x in (tensor for place in places for tensor in _tensors(place)):
        if x.is_floating_point() and x.ndim == 2:
            return x
    raise ValueError(f"the network returns {_kind(answer)}, but logits of shape (B, C) are needed")


def _elements(x: Any) -> dict[str, Any]:
    if isinstance(x, Mapping):
        return {str(key): value for key, value in x.items()}
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return {field.name: getattr(x, field.name) for field in dataclasses.fields(x)}
    if not isinstance(x, list | tuple):
        return {}
    named = dict(zip(getattr(x, "_fields", ()), x, strict=False))
    return {**{str(i): value for i, value in enumerate(x)}, **named}


def _tensors(x: Any) -> Iterator[Tensor]:
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, list | tuple):
        for value in x:
            yield from _tensors(value)
    else:
        for value in _elements(x).values():
            yield from _tensors(value)


def _kind(x: Any) -> str:
    if isinstance(x, Tensor):
        return f"a tensor of shape {tuple(x.shape)}"
    kind = type(x).__name__
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}" if _elements(x) else shown(x)
