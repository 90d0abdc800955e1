"""From a network of any kind to one that can be explained: `wrap`, and how it is found again."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from l2i_fast.adapters import ADAPTERS
from l2i_fast.adapters.parts import Output, Parts, Pooling
from l2i_fast.arguments import function_or_none, integer, is_several, number, shown
from l2i_fast.defaults import default_settings
from l2i_fast.forks import importing
from l2i_fast.model.windowed import Origin, Runner, WindowedNetwork, digest
from l2i_fast.networks.evaluating import evaluating
from l2i_fast.networks.hidden import HiddenMaps
from l2i_fast.networks.inputs import Waveform
from l2i_fast.networks.layouts import Layout, find_layouts
from l2i_fast.networks.suggest import choose_layers, suggest_layers
from l2i_fast.settings import Analysis

#: Seconds of a frame of the engine's spectrum, about which a power of two is chosen.
_FRAME = 0.0232
#: Seconds of the signals by which networks without a window are probed.
_PROBE = 2.0


@default_settings()
@torch.inference_mode(False)
def wrap(
    network: Any,
    classes: Sequence[str] | int | None = None,
    *,
    front_end: Callable[[Tensor], Any] | None = None,
    sample_rate: int | None = None,
    layers: Sequence[str] | Mapping[str, str] | None = None,
    window: float | None = None,
    hop: float | None = None,
    multilabel: bool = False,
    decision: Sequence[float] | None = None,
    output: Output = "logits",
    pooling: Pooling = "mean",
    analysis: Analysis | None = None,
    **arguments: Any,
) -> WindowedNetwork:
    """Prepare any network for being explained.

    Parameters
    ----------
    network
        A torch module; an `OnnxSession` or a `LiteRTSession`; a function that returns scores (B, C) and named maps
        ``{name: tensor}``; or the name of an adapter, such as "yamnet", which knows the rest.
    classes : sequence of str, or int
        Names of the C classes, or their number. Most adapters know them.
    front_end : callable, optional
        From samples (B, N), a float32 tensor in [-1, 1], to the network's input: see `l2i_fast.networks.inputs`. The
        samples themselves by default.
    sample_rate : int, optional
        Rate of the samples in Hz; that of the front end, if it has the attribute `sample_rate`.
    layers : sequence of str, or mapping of str to str, optional
        Hidden layers that the interpreter reads: see `l2i_fast.suggest_layers`, which chooses them by default. A
        mapping states the layout of each, such as ``{"encoder.layer.3": "b 2+(f=12 t) c"}``; others are found by
        probes.
    window, hop : float, optional
        Seconds of sound that the network hears at once, and from one window to the next (the window by default). A
        network without a window hears whole recordings.
    multilabel : bool
        Whether a recording may have several classes (sigmoid) or exactly one (softmax).
    decision : sequence of float, optional
        With several labels, the lowest probability at which each class is predicted; 0.5 by default.
    output : {"logits", "probabilities"}
        What the network's scores are.
    pooling : {"mean", "max"}
        How the probabilities of windows make those of a recording.
    analysis : Analysis, optional
        The engine's spectrum, in which components are found and masked: frames of about 23 ms by default.
    **arguments
        Of the adapter.

    Returns
    -------
    WindowedNetwork
        It explains nothing yet: `l2i_fast.fit` learns how from recordings.

    Raises
    ------
    TypeError, ValueError
        An unknown adapter or layer, a layer without a time axis, a rate that is missing or contradicts the front end's,
        or a network that does not return scores for the classes.
    """
    if isinstance(network, str):
        given = {"front_end": front_end, "sample_rate": sample_rate, "window": window, "hop": hop}
        if stated := [name for name, value in given.items() if value is not None]:
            raise TypeError(f"{stated[0]} is given, but the adapter {network!r} states it itself")
        named = arguments if classes is None else {"classes": classes, **arguments}
        return _adapted(network, layers, decision, analysis, named)
    if arguments:
        raise TypeError(f"wrap has no argument {next(iter(arguments))!r}, and only adapters have others")
    if classes is None:
        raise TypeError("classes is None, but must name the network's classes, or be their number")
    names = [f"class {i}" for i in range(integer(classes, "classes"))] if isinstance(classes, int) else classes
    rate = _rate(front_end, sample_rate)
    function_or_none(front_end, "front_end")
    front_end = Waveform(rate) if front_end is None else front_end
    n_window, n_hop = (_samples(value, name, rate) for value, name in ((window, "window"), (hop, "hop")))
    if n_hop is not None and (n_window is None or n_hop > n_window):
        raise ValueError(f"hop is {hop:g} seconds, but must be at most the window, which is {window}")
    probe = n_window or round(_PROBE * rate)
    example = torch.zeros(probe)
    _try(network, front_end, probe)
    if layers is None:
        layers = _layers_of(network, example, front_end, rate)
    texts = dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(_names(layers))
    runner = _runner(network, tuple(texts))
    layouts = {name: Layout.parse(text) for name, text in texts.items() if text is not None}
    if missing := [name for name in texts if name not in layouts]:
        layouts |= find_layouts(_runner(network, tuple(missing)), missing, probe, front_end)
    wrapped = WindowedNetwork(
        runner,
        front_end,
        names,
        analysis or _analysis(rate),
        [layouts[name] for name in texts],
        n_window,
        n_hop,
        multilabel,
        decision,
        output,
        pooling,
        _fingerprint(network),
    )
    wrapped.answer()
    return wrapped


def find_network(where: str) -> WindowedNetwork:
    """Import and call the function that makes a network, ``file.py:function`` or ``package.module:function``.

    Raises
    ------
    ValueError
        No such file, module or function, or one that returns something else than `wrap` does.
    """
    place, _, name = where.rpartition(":")
    if not place or not name.isidentifier():
        raise ValueError(f"network is {where!r}, but must be file.py:function or package.module:function")
    try:
        with importing:
            module = _script(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except (Exception, SystemExit) as error:
        why = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"network is {where!r}, but {place} cannot be imported: {why}") from error
    make = getattr(module, name, None)
    if not callable(make):
        raise ValueError(f"network is {where!r}, but {place} has no function {name}")
    try:
        network = make()
    except (Exception, SystemExit) as error:
        raise ValueError(f"network is {where!r}, but the function fails: {type(error).__name__}: {error}") from error
    if not isinstance(network, WindowedNetwork):
        raise ValueError(
            f"network is {where!r}, but the function returns {shown(network)}: it must return what l2i_fast.wrap does"
        )
    network.origin = Origin(where, {})
    return network


def _script(file: Path) -> Any:
    if not file.is_file():
        raise ImportError(f"there is no file {file}")
    spec = importlib.util.spec_from_file_location(f"l2i_network_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as dataclasses in it need
    if (folder := str(file.resolve().parent)) not in sys.path:
        sys.path.insert(0, folder)  # as Python does for a script
    spec.loader.exec_module(module)
    return module


def _try(network: Any, front_end: Callable[[Tensor], Any], n: int) -> None:
    """Run front end and network on two windows of silence, so that what does not fit is named.

    Raises
    ------
    ValueError
        The front end or the network fails, or the front end does not give an item for each window.
    """
    try:
        x = front_end(torch.zeros(2, n))
    except Exception as error:
        raise ValueError(f"front_end fails on samples of shape (2, {n}): {_first_line(error)}") from error
    parts = dict(x) if isinstance(x, Mapping) else {"": x}
    for name, value in parts.items():
        what = f"front_end returns {shown(value)}{f' as {name!r}' if name else ''}"
        if not hasattr(value, "shape"):
            raise ValueError(f"{what}, but must return a tensor, an array, or a mapping of those")
        if len(value.shape) == 0 or value.shape[0] != 2:
            raise ValueError(
                f"front_end returns shape {tuple(value.shape)} for 2 windows, but its first axis must count them"
            )
    if not isinstance(network, nn.Module):
        return
    weights = next((p for p in network.parameters() if p.is_floating_point()), None)
    kinds = {value.dtype for value in parts.values() if isinstance(value, Tensor) and value.is_floating_point()}
    try:
        with torch.no_grad(), evaluating(network):
            network(**parts) if isinstance(x, Mapping) else network(x)
    except Exception as error:
        given = ", ".join(f"{name or 'a tensor'} of shape {tuple(value.shape)}" for name, value in parts.items())
        kind = (
            ""
            if weights is None or kinds <= {weights.dtype}
            else f", {kinds.pop()} against {weights.dtype} of its weights"
        )
        raise ValueError(f"network fails on {given}{kind}, of windows of {n} samples: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def _adapted(
    name: str,
    layers: Sequence[str] | Mapping[str, str] | None,
    decision: Sequence[float] | None,
    analysis: Analysis | None,
    arguments: Mapping[str, Any],
) -> WindowedNetwork:
    if name.endswith((".onnx", ".tflite")):
        raise TypeError(
            f"network is {name!r}, but a file needs a session: OnnxSession or LiteRTSession, see docs/any_network.md"
        )
    if name not in ADAPTERS:
        raise ValueError(f"network is {name!r}, but must be a network or the name of an adapter: {', '.join(ADAPTERS)}")
    with importing:
        adapter: Callable[..., Parts] = getattr(importlib.import_module(f"l2i_fast.adapters.{name}"), name)
    known = inspect.signature(adapter).parameters
    if unknown := [argument for argument in arguments if argument not in known]:
        raise TypeError(f"the adapter {name!r} has no argument {unknown[0]!r}; it has {', '.join(known)}")
    parts = adapter(**arguments)
    wrapped = wrap(
        parts.network,
        parts.classes,
        front_end=parts.front_end,
        layers=layers or parts.layers,
        window=parts.window,
        hop=parts.hop,
        multilabel=parts.multilabel,
        decision=decision or (parts.decision,) * len(parts.classes),
        output=parts.output,
        pooling=parts.pooling,
        analysis=analysis,
    )
    with suppress(TypeError, ValueError):  # a network with a head of the user's must be given again
        wrapped.origin = Origin(name, json.loads(json.dumps(arguments)))
    return wrapped


def _names(layers: Any) -> list[str]:
    if not is_several(layers) or not all(isinstance(name, str) for name in layers):
        raise TypeError(f"layers is {shown(layers)}, but must be a list of names, or name the layout of each")
    return list(layers)


def _rate(front_end: Any, sample_rate: int | None) -> int:
    own = getattr(front_end, "sample_rate", None)
    if own is None and sample_rate is None:
        raise TypeError("sample_rate is None, but must be the network's, since the front end states none")
    if own is not None and sample_rate is not None and own != sample_rate:
        raise ValueError(f"sample_rate is {sample_rate}, but the front end takes {own} Hz")
    return integer(own if sample_rate is None else sample_rate, "sample_rate")


def _samples(seconds: float | None, name: str, rate: int) -> int | None:
    if seconds is None:
        return None
    n = round(number(seconds, name) * rate)
    if not 1 <= n <= 3600 * rate:
        raise ValueError(f"{name} is {seconds:g} seconds, but must be at least a sample and at most an hour")
    return n


def _analysis(rate: int) -> Analysis:
    n_fft = max(32, 2 ** round(math.log2(_FRAME * rate)))
    return Analysis(sample_rate=rate, n_fft=n_fft, hop_length=n_fft // 2, n_mels=min(64, n_fft // 8))


def _runner(network: Any, layers: tuple[str, ...]) -> Runner:
    if isinstance(network, nn.Module):
        return HiddenMaps(network, layers)
    if hasattr(network, "select"):
        return network.select(layers)  # type: ignore[no-any-return]
    if callable(network):
        return Function(network, layers)
    raise TypeError(f"network is {shown(network)}, but must be a torch module, a session, a function or a name")


def _layers_of(network: Any, example: Tensor, front_end: Callable[[Tensor], Any], rate: int) -> Sequence[str]:
    """Return the layers of a network that states its own, or those that suit an interpreter."""
    if getattr(network, "layers", ()):
        return tuple(network.layers)
    if isinstance(network, nn.Module) or hasattr(network, "select"):
        return choose_layers(suggest_layers(network, example, front_end, rate))
    names: list[str] = []
    _runner(network, ())

    def noted(x: Any) -> Any:
        answer = network(x)
        names.extend(answer[1] if isinstance(answer, tuple) and len(answer) == 2 else ())
        return answer

    Function(noted, ())(front_end(example[None]))
    return names


class Function:
    """A function that returns scores and named maps, as what runs a network.

    Parameters
    ----------
    function : callable
        Returns scores (B, C) and a mapping of names to tensors.
    layers : sequence of str
        Those to return.
    """

    def __init__(self, function: Callable[[Any], tuple[Tensor, Mapping[str, Tensor]]], layers: Sequence[str]) -> None:
        self.function, self.layers = function, tuple(layers)

    def __call__(self, x: Any) -> tuple[Tensor, list[Tensor]]:
        """Return scores and maps for `x`."""
        answer = self.function(x)
        if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], Mapping):
            raise ValueError(f"network returns {shown(answer)}, but must return (scores, {{name: map}})")
        scores, maps = answer
        for name in self.layers:
            if name not in maps:
                raise ValueError(f"layers names {name!r}, but the network returns {', '.join(maps)}")
        return scores, [torch.as_tensor(maps[name]) for name in self.layers]


def _fingerprint(network: Any) -> str:
    if isinstance(network, nn.Module):
        state = network.state_dict()
        return digest(*(part for name, x in state.items() for part in (name.encode(), _bytes(x))))
    return str(getattr(network, "fingerprint", ""))


def _bytes(x: Tensor) -> bytes:
    return x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
