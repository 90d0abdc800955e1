"""Which layers of a network an interpreter can read, found by running probes through it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from l2i_fast.arguments import integer, positive_float32, shown
from l2i_fast.networks.hidden import find_map, run_watched
from l2i_fast.networks.layouts import Layout, agree, layout_or_reason, measure_slope
from l2i_fast.networks.probes import Probes, Responses, make_probes, respond

#: Part of the largest change of an output that still counts as a change.
CHANGE = 0.01
#: Seconds from column to column below which maps are taken only if there are no others.
FINEST = 0.004


class Named(Protocol):
    """A layer of a session."""

    @property
    def name(self) -> str:
        """As `Session.select` takes it."""


class Session(Protocol):
    """A network, such as one in a file, that can return the outputs of any of its layers."""

    def available(self) -> Sequence[Named]:
        """Return its layers in the order in which they run."""

    def select(self, layers: Sequence[str]) -> Callable[[Any], tuple[Any, Sequence[Tensor]]]:
        """Return a function from the network's input to its scores and the outputs of `layers`."""


class LayerSuggestion(NamedTuple):
    """A layer, as probes of one length have seen it.

    Attributes
    ----------
    name : str
        As `HiddenMaps` takes it, with the number of the run if its module runs several times in a pass.
    shape : tuple of int
        Shape of its output for one signal.
    layout : Layout or None
        None if it cannot be used.
    channels, columns, rows : int
        Size of its map: channels, time and frequency; 0 if it cannot be used.
    resolution : float
        Seconds from column to column.
    receptive_field : float
        Seconds of the input that change a column, by at least 1 % of what the strongest change does; the length of the
        probes if `whole`.
    whole : bool
        Whether the receptive field is the whole of the probes.
    reason : str
        Why it cannot be used; empty if it can.
    """

    name: str
    shape: tuple[int, ...]
    layout: Layout | None = None
    channels: int = 0
    columns: int = 0
    rows: int = 0
    resolution: float = 0.0
    receptive_field: float = 0.0
    whole: bool = False
    reason: str = ""


class Suggestions(list[LayerSuggestion]):
    """Suggestions in the order in which the layers run; as text, a table."""

    def __str__(self) -> str:
        head = ("layer", "layout", "channels", "columns", "rows", "hop", "receptive field")
        lines = [head, *map(_cells, self)]
        widths = [max(len(line[i]) for line in lines if len(line) == len(head)) for i in range(len(head))]
        widths[0] = max(len(line[0]) for line in lines)
        numbers = range(2, len(head))
        return "\n".join(
            "  ".join(
                cell.rjust(width) if i in numbers and len(line) == len(head) else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=False))
            ).rstrip()
            for line in lines
        )


def _cells(layer: LayerSuggestion) -> tuple[str, ...]:
    if layer.layout is None:
        return layer.name, layer.reason
    field = "everything" if layer.whole else _duration(layer.receptive_field)
    sizes = map(str, (layer.channels, layer.columns, layer.rows))
    return layer.name, str(layer.layout), *sizes, _duration(layer.resolution), field


def _duration(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def suggest_layers(
    network: nn.Module | Session | Any,
    example: Any,
    front_end: Callable[[Tensor], Any] | None = None,
    sample_rate: float | None = None,
    unusable: bool = False,
) -> Suggestions:
    """Return the layers of a network that an interpreter can read, with what probes tell about them.

    Of several layers with the same output, such as dropout in evaluation mode, what it drops from, and the block that
    ends there, only one is listed: the outermost block that ends with the first of them.

    Parameters
    ----------
    network : nn.Module, Session, or object like `HiddenMaps`
        The last has `layers`, names in the order in which they run, and returns scores and the outputs of all of them.
    example : Tensor or ndarray (N,) or (B, N)
        Samples. Their number alone counts: the network runs on probes of this length.
    front_end : callable, optional
        From samples (B, N), float32, to the network's input; by default that is the samples themselves.
    sample_rate : float, optional
        Hz; that of the front end by default.
    unusable : bool
        Whether to list the layers that cannot be used, too.

    Returns
    -------
    Suggestions

    Raises
    ------
    ValueError
        Another shape of the example, no rate, or a network that gives different answers to the same input.
    """
    shape = tuple(np.shape(example))
    if len(shape) not in (1, 2):
        raise ValueError(f"example has shape {shape}, but samples (N,) or (B, N) are needed")
    rate = getattr(front_end, "sample_rate", None) if sample_rate is None else sample_rate
    if rate is None:
        raise ValueError("sample_rate is None, but must be given where the front end does not state it")
    rate = positive_float32(rate, "sample_rate")
    probes = make_probes(shape[-1])
    responses = respond(_runner(network, front_end, probes), probes, front_end)
    layouts: dict[str, Layout] = {}
    reasons: dict[str, str] = {}
    for name, one in responses.items():
        found = layout_or_reason(one)
        if isinstance(found, str):
            reasons[name] = found
        else:
            layouts[name] = found
    layouts = agree(layouts, {name: one.shape for name, one in responses.items()})
    return Suggestions(
        _measured(name, one, layouts[name], probes, rate)
        if name in layouts
        else LayerSuggestion(name, one.shape, reason=reasons[name])
        for name, one in responses.items()
        if name in layouts or unusable
    )


def choose_layers(suggestions: Iterable[LayerSuggestion], n: int = 3) -> list[str]:
    """Return the names of up to `n` layers of increasing depth for an interpreter to read.

    Layers are left out as long as others remain: first those with one channel, which are spectrograms rather than
    answers to them; then those whose every column depends on the whole window, since an explanation in time needs
    places, unless others are found in the first half of the depth only, as in transformers; then those with columns
    closer than 4 ms.

    Of the rest, ordered by depth, layer k of n lies beside ``k / n`` of the depth or within ``1 / (4 n)`` of it: one
    that runs once if there is any, of these one whose name has the fewest parts, such as a whole block, and of these
    the nearest. So the last one is among the deepest, as in the paper, which reads the last three blocks of
    convolutions.

    Parameters
    ----------
    suggestions : iterable of LayerSuggestion
        In the order in which the layers run, as from `suggest_layers`.
    n : int

    Raises
    ------
    ValueError
        No layer can be used.
    """
    n = integer(n, "n")
    left = [layer for layer in suggestions if layer.layout is not None]
    if not left:
        raise ValueError("suggestions has no layer with an axis of time, but at least one is needed")
    left = [layer for layer in left if layer.channels > 1] or left
    local = [i for i, layer in enumerate(left) if not layer.whole]
    if local and local[-1] + 1 > len(left) / 2:
        left = [left[i] for i in local]
    left = [layer for layer in left if layer.resolution >= FINEST] or left
    chosen = []
    for k in range(1, n + 1):
        place, reach = k * len(left) / n - 1, max(len(left) / (4 * n), 1)
        near = [i for i in range(len(left)) if abs(i - place) <= reach]
        chosen.append(min(near, key=lambda i: ("#" in left[i].name, left[i].name.count("."), abs(i - place))))
    return [left[i].name for i in sorted(set(chosen))]


def _measured(name: str, one: Responses, layout: Layout, probes: Probes, rate: float) -> LayerSuggestion:
    channels, columns, rows = layout.to_map(one.base).shape[1:]
    duration = len(probes.base) / rate
    resolution = duration / (columns * measure_slope(one, layout))
    change = layout.over_time(one.short) if one.short else torch.zeros(columns)
    changed = (change > CHANGE * change.max()).nonzero().flatten().tolist() or [0]
    field = max((changed[-1] - changed[0] + 1) * resolution - probes.short_length / rate, resolution)
    whole = len(changed) > 1 and ((changed[0] == 0 and changed[-1] == columns - 1) or field >= 0.95 * duration)
    field = duration if whole else min(field, duration)
    return LayerSuggestion(name, one.shape, layout, channels, columns, rows, resolution, field, whole)


class _Entry(NamedTuple):
    name: str  # of the module
    run: int
    output: Tensor
    seen: tuple[Any, ...]  # the output's fingerprint as the module returned it


def _fingerprint(x: Tensor) -> tuple[Any, ...]:
    values = x.double()
    return tuple(x.shape), float(values.sum()), float(values.square().sum())


def _distinct(entries: Sequence[_Entry]) -> list[_Entry]:
    """Return one entry for each content, by the end of the pass, of outputs."""
    groups: dict[tuple[Any, ...], list[_Entry]] = {}
    for entry in entries:
        groups.setdefault(_fingerprint(entry.output), []).append(entry)
    chosen = []
    for content, group in groups.items():
        # What a layer behind has worked on in place is named after that layer.
        first = next((entry for entry in group if entry.seen == content), group[-1])
        around = [entry for entry in group if entry.name and first.name.startswith(f"{entry.name}.")]
        chosen.append((entries.index(first), min(around, key=lambda entry: len(entry.name), default=first)))
    return [entry for _, entry in sorted(chosen, key=lambda one: one[0])]


def _runner(
    network: Any, front_end: Callable[[Tensor], Any] | None, probes: Probes
) -> Callable[[Any], Mapping[str, Tensor]]:
    """Return a function from the network's input to the distinct outputs of its layers by name."""
    with torch.no_grad():
        x = probes.base[None] if front_end is None else front_end(probes.base[None])
        if isinstance(network, nn.Module):
            return _module_runner(network, x)
        if hasattr(network, "available"):
            layers = tuple(layer.name for layer in network.available())
            run = network.select(layers)
        elif callable(network) and hasattr(network, "layers"):
            layers, run = tuple(network.layers), network
        else:
            raise TypeError(f"network is {shown(network)}, but a torch module or a session is needed")
        outputs = dict(zip(layers, run(x)[1], strict=True))
    kept = {e.name for e in _distinct([_Entry(name, 0, y, _fingerprint(y)) for name, y in outputs.items()])}

    def collect(x: Any) -> Mapping[str, Tensor]:
        scores, maps = run(x)
        return {**{name: y for name, y in zip(layers, maps, strict=True) if name in kept}, "": scores}

    return collect


def _module_runner(network: nn.Module, x: Any) -> Callable[[Any], Mapping[str, Tensor]]:
    modules = {name: module for name, module in network.named_modules() if name}
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    passes: Counter[str] = Counter()
    entries: list[_Entry] = []

    def note(name: str, count: int, output: Any) -> None:
        passes[name] = count + 1
        try:
            tensor = find_map(output)
        except ValueError:  # without tensors
            return
        entries.append(_Entry(name, count, tensor, _fingerprint(tensor)))

    run_watched(network, _on(device, x), modules, note)
    names = {
        (entry.name, entry.run): f"{entry.name}#{entry.run}" if passes[entry.name] > 1 else entry.name
        for entry in _distinct(entries)
    }
    watched = {name: modules[name] for name, _ in names}

    def run(x: Any) -> Mapping[str, Tensor]:
        found: dict[str, Tensor] = {}

        def keep(name: str, count: int, output: Any) -> None:
            if (name, count) in names:
                found[names[name, count]] = find_map(output)

        answer = run_watched(network, _on(device, x), watched, keep)
        return {**{name: found[name] for name in names.values() if name in found}, "": find_map(answer)}

    return run


def _on(device: torch.device, x: Any) -> Any:
    if isinstance(x, Mapping):
        return {name: _on(device, value) for name, value in x.items()}
    return x.to(device) if isinstance(x, Tensor) else x
