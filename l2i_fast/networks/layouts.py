"""How the outputs of a network's layers are laid out, as text that people write and as found by probes."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from l2i_fast.arguments import shown
from l2i_fast.networks.probes import Responses, make_probes, respond

_AXIS = re.compile(r"(?:(?P<skip>\d+)\+)?(?:(?P<one>[bctf])|\((?P<several>[^()]*)\))")
_PART = re.compile(r"(?P<name>[ctf])(?:=(?P<size>\d+))?")
_FORM = "axes b, c, t and f in their order, such as 'b c t f', 'b t c' or 'b 2+(f=12 t) c'"

#: Lowest correlation of responses with probes that counts, and its least distance from chance in standard deviations.
LEAST, DEVIATIONS = 0.3, 3.0
#: Most rows of a grid of tokens.
MOST_ROWS = 64
#: Columns up to which tokens are looked for; more are joined.
MOST_COLUMNS = 512


class Axis(NamedTuple):
    """One axis of an output.

    Attributes
    ----------
    names : str
        What it runs over: "b", "c", "t" or "f"; several of "c", "t" and "f" if it holds a grid, the last one fastest.
    sizes : tuple of int or None
        The size of each; None where it follows from the size of the axis.
    skip : int
        Indices before these, such as class tokens.
    """

    names: str
    sizes: tuple[int | None, ...]
    skip: int = 0

    def __str__(self) -> str:
        parts = [name if size is None else f"{name}={size}" for name, size in zip(self.names, self.sizes, strict=True)]
        grid = len(parts) > 1 or self.sizes[0] is not None
        return (f"{self.skip}+" if self.skip else "") + (f"({' '.join(parts)})" if grid else parts[0])


@dataclass(frozen=True)
class Layout:
    """How the output of a layer is laid out.

    As text, it names the axes in their order: b the signals, c channels, t time, f frequency; c and f may be missing.
    An axis that holds a grid stands in brackets with its sizes, the last name running fastest, and the number of
    indices to skip stands before it:

    =======================  ============================================================
    ``"b c t f"``            maps of a 2-D network on (time, frequency)
    ``"b t f c"``            the same, channels last
    ``"b c t"``, ``"b t c"``   1-D networks, recurrent layers, tokens along time
    ``"t b c"``              recurrent layers with ``batch_first=False``
    ``"b 2+(f=12 t) c"``     a class and a distillation token, then 12 rows of patches, time running fastest (AST)
    ``"b (t f=8) c"``        patches with frequency running fastest, 8 at each moment (BEATs)
    ``"b t (c f=4)"``        channels and frequency in one axis
    =======================  ============================================================

    ``Layout.parse(str(layout)) == layout``.

    Attributes
    ----------
    axes : tuple of Axis
    """

    axes: tuple[Axis, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the layout that a text names.

        Raises
        ------
        ValueError
            Anything else, an axis that stands twice, no b or t, or a grid with more than one open size.
        """
        if not isinstance(text, str):
            raise ValueError(f"layout is {shown(text)}, but must name {_FORM}")
        words = re.findall(r"(?:\d+\+)?\([^()]*\)|[^\s()]+|[()]", re.sub(r"\s*([=+])\s*", r"\1", text))
        layout = cls(tuple(_axis(word, text) for word in words))
        names = layout.names
        twice = [name for i, name in enumerate(names) if name in names[:i]]
        if twice:
            raise ValueError(f"layout is {text!r}, but {twice[0]!r} must stand once")
        for name, what in (("b", "signals"), ("t", "time")):
            if name not in names:
                raise ValueError(f"layout is {text!r}, but needs {name!r}, the axis of {what}")
        return layout

    def __str__(self) -> str:
        return " ".join(map(str, self.axes))

    @property
    def names(self) -> str:
        """The names in their order, without brackets."""
        return "".join(axis.names for axis in self.axes)

    def to_map(self, x: Tensor) -> Tensor:
        """Return an output as a map.

        Parameters
        ----------
        x : Tensor
            Real numbers, of the shape that the layout describes.

        Returns
        -------
        Tensor (B, channels, time, frequency), float32
            Shares memory with `x` where it can. An axis that the layout lacks has size 1.

        Raises
        ------
        ValueError
            A shape that does not fit the layout.
        TypeError
            Complex numbers.
        """
        if x.is_complex():
            raise TypeError(f"the output has dtype {x.dtype}, but real numbers are needed")
        shape = tuple(x.shape)
        if len(shape) != len(self.axes):
            axes = len(self.axes)
            raise ValueError(f"the output has shape {shape}, but the layout {str(self)!r} needs {axes} dimensions")
        sizes: list[int] = []
        for i, axis in enumerate(self.axes):
            sizes += self._sizes(i, shape)
            if axis.skip:
                x = x.narrow(i, axis.skip, shape[i] - axis.skip)
        x = x.reshape(sizes).permute([self.names.index(name) for name in "bctf" if name in self.names])
        for i, name in enumerate("bctf"):
            if name not in self.names:
                x = x.unsqueeze(i)
        return x.float()

    def over_time(self, along: Sequence[Tensor]) -> Tensor:
        """Return root mean squares over the columns of the map, (T,), of those that `Responses` hold for each axis."""
        i = next(i for i, axis in enumerate(self.axes) if "t" in axis.names)
        axis = self.axes[i]
        squares = along[i].double()[axis.skip :].square().reshape(self._sizes(i, tuple(map(len, along))))
        others = [k for k, name in enumerate(axis.names) if name != "t"]
        return (squares.mean(others) if others else squares).sqrt()

    def _sizes(self, i: int, shape: tuple[int, ...]) -> list[int]:
        axis = self.axes[i]
        n = shape[i] - axis.skip
        known = math.prod(size for size in axis.sizes if size is not None)
        fits = n > 0 and (n % known == 0 if None in axis.sizes else n == known)
        if not fits and not (axis.names == "b" and n == 0):
            raise ValueError(f"the output has shape {shape}, but the layout {str(self)!r} does not fit axis {i}")
        return [n // known if size is None else size for size in axis.sizes]


def _axis(word: str, text: str) -> Axis:
    found = _AXIS.fullmatch(word)
    parts = [_PART.fullmatch(part) for part in (found["several"] or "").split()] if found else []
    if found is None or not all(parts) or not (parts or found["one"]):
        raise ValueError(f"layout is {text!r}, but must name {_FORM}")
    skip = int(found["skip"] or 0)
    if found["one"]:
        if found["one"] == "b" and skip:
            raise ValueError(f"layout is {text!r}, but no signals can be skipped")
        return Axis(found["one"], (None,), skip)
    names = "".join(part["name"] for part in parts if part)
    sizes = tuple(None if part["size"] is None else int(part["size"]) for part in parts if part)
    if sizes.count(None) > 1 or 0 in sizes:
        raise ValueError(f"layout is {text!r}, but all sizes in brackets but one must be given, such as '(f=12 t)'")
    return Axis(names, sizes, skip)


class _Follows(NamedTuple):
    """How responses follow the bursts: a correlation, and the part of the axis that the signal takes."""

    value: float
    slope: float = 1.0


class _Grid(NamedTuple):
    """A grid of `rows` along an axis, behind `skip` tokens; the rows are `outer` if time runs fastest."""

    follows: _Follows
    skip: int = 0
    rows: int = 1
    outer: bool = False


def find_layout(responses: Responses, name: str = "layer") -> Layout:
    """Return the layout that explains how the output of a layer answers to probes.

    The axis of time is the one along which the responses move with the bursts. Of two others, the first holds the
    channels, or the last if both come behind time; unless the responses move with the frequencies of the tones along
    this axis, and more than along the other. An output of three dimensions has an axis of channels; if its other axis
    holds a grid of time and frequency, the number of rows, their order and up to two tokens before them are those that
    explain the responses best.

    Parameters
    ----------
    responses : Responses
        Of the layer, from `respond`.
    name : str
        Of the layer, for errors.

    Returns
    -------
    Layout

    Raises
    ------
    ValueError
        No layout explains the responses.
    """
    found = layout_or_reason(responses)
    if isinstance(found, str):
        raise ValueError(f"the layer {name!r} returns shape {responses.shape}, but {found}")
    return found


def layout_or_reason(responses: Responses) -> Layout | str:
    """Return what `find_layout` does, or why there is no layout in the place of an error."""
    shape, batch = responses.shape, responses.batch
    state = "state its layout, such as 'b c t f' or 'b t c', if it has one"
    if len(shape) < 3:
        return "has no axis of time"
    if batch < 0:
        return "no axis counts the signals"
    if len(shape) > 4:
        return "layouts have three or four dimensions"
    if not responses.complete:
        return "its shape differs from signal to signal, or it does not run for each"
    axes = [axis for axis in range(len(shape)) if axis != batch]
    has_tones = bool(responses.tuned) and all(responses.tuned)
    grids = {
        axis: _best_grid(
            responses.along(axis), responses.along(axis, tones=True) if has_tones else None, tokens=len(shape) == 3
        )
        for axis in axes
    }
    tried = " and ".join(f"{grid.follows.value:.2f} along axis {axis}" for axis, grid in grids.items())
    time = max(axes, key=lambda axis: grids[axis].follows.value)
    most = grids[time].follows.value
    if most < LEAST:
        return f"no axis follows bursts in time (correlations {tried}): {state}"
    # Along a few channels, responses may follow by chance.
    weights = {axis: grid.follows.value * math.sqrt(shape[axis] - 1) for axis, grid in grids.items()}
    rivals = [axis for axis in axes if axis != time and 2 * weights[axis] > weights[time]]
    if any(grids[axis].follows.value > max(LEAST, 0.8 * most) for axis in rivals):
        return f"several axes follow bursts in time (correlations {tried}): {state}"
    others = [axis for axis in axes if axis != time]
    if len(shape) == 3:
        _, skip, rows, outer = grids[time]
        grid = Axis("ft", (rows, None), skip) if outer else Axis("tf", (None, rows), skip)
        named = {time: grid if rows > 1 else Axis("t", (None,), skip), others[0]: Axis("c", (None,))}
    else:
        if time < others[0]:
            others.reverse()  # channels last
        if has_tones and _is_frequency(responses, *others):
            others.reverse()
        named = {time: Axis("t", (None,)), others[0]: Axis("c", (None,)), others[1]: Axis("f", (None,))}
    named[batch] = Axis("b", (None,))
    return Layout(tuple(named[axis] for axis in range(len(shape))))


def _best_grid(R: Tensor, tones: Tensor | None, tokens: bool) -> _Grid:
    """Return the grid of tokens, or the plain axis, that explains responses to bursts (P, n) and tones (Q, n) best."""
    D = _apart(R)
    norm, n = float(D.norm()), D.shape[1]
    found: list[tuple[float, _Grid]] = []
    for skip, rows in itertools.product(range(3 if tokens else 1), range(1, MOST_ROWS + 1 if tokens else 2)):
        columns, rest = divmod(n - skip, rows)
        if rest or columns < 2 or (columns > MOST_COLUMNS and (skip or rows > 1)):
            continue
        for outer in (False, True) if rows > 1 else (False,):
            follows = _follows_time(_folded(D[:, skip:], rows, not outer) / rows**0.5, norm)
            explained = 0.0 if tones is None or rows == 1 else _rows_explain(tones[:, skip:], rows, outer)
            if outer or rows == 1 or explained:  # with time running fastest, time alone shows the rows
                found.append((follows.value + explained, _Grid(follows, skip, rows, outer)))
    most = max((grid.follows.value for _, grid in found), default=0.0)
    close = [one for one in found if one[1].follows.value >= 0.9 * most > 0]
    return max(close, key=lambda one: one[0])[1] if close else _Grid(_Follows(0.0))


def _folded(R: Tensor, rows: int, inner: bool) -> Tensor:
    """Return sums over `rows` that run over the fastest, or the slowest, part of the last axis."""
    n = R.shape[-1]
    return R.reshape(-1, n // rows, rows).sum(2) if inner else R.reshape(-1, rows, n // rows).sum(1)


def _rows_explain(R: Tensor, rows: int, outer: bool) -> float:
    """Return the part of the variance of responses (Q, n) to tones that lies between rows, adjusted for chance."""
    n = R.shape[1]
    D = _apart(R / R.mean(0).clamp_min(1e-30))
    means = _folded(D, n // rows, outer) * (rows / n)
    total = float(D.square().mean())
    explained = 1 - (1 - float(means.square().mean()) / total) * n / (n - rows) if total > 1e-12 and n > rows else 0.0
    if rows < 4:  # too few to tell their order
        return explained if explained > 2 * LEAST else 0.0
    return explained if explained > LEAST and _follows_tones(_folded(R, n // rows, outer)) else 0.0


def _apart(R: Tensor) -> Tensor:
    """Return what sets responses (..., P, n) apart from one another: rows and columns have the mean 0."""
    R = R / R.sum(-1, keepdim=True).clamp_min(1e-30)
    return R - R.mean(-2, keepdim=True)


def _correlations(D: Tensor, patterns: Tensor, norm: float) -> Tensor:
    """Return the correlations of responses (P, n) of a norm with unit patterns (K, P n), 0 for those due to chance."""
    r = patterns @ D.flatten().to(patterns.dtype) / max(norm, 1e-12)
    return torch.where(r * _freedom(D) >= DEVIATIONS, r, 0.0)


def _unit(patterns: Tensor) -> Tensor:
    D = _apart(patterns).flatten(1)
    return D / D.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)


def _freedom(D: Tensor) -> float:
    return math.sqrt((D.shape[0] - 1) * (D.shape[1] - 1))


def _middles(n: int) -> Tensor:
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def _bumps(places: Tensor, widths: Tensor, n: int) -> Tensor:
    """Return bumps (..., P, n) around places (..., P) from 0 to 1, of widths (...)."""
    return torch.exp(-0.5 * ((_middles(n) - places[..., None]) / widths.clamp_min(0.5 / n)[..., None, None]) ** 2)


#: Parts of the axis of time that a signal may fill.
_SLOPES = tuple(0.9**k for k in range(16))


@functools.lru_cache(maxsize=24)
def _time_patterns(P: int, n: int, slopes: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Return slopes (K,) and unit patterns (K, P n), float32."""
    # The signal fills the beginning, the middle or the end of the axis, and a layer may look far around.
    cases = itertools.product(slopes, (0.0, 0.5, 1.0), (0.5, 1.0, 2.0))
    slope, part, spread = torch.tensor([case for case in cases if case[0] < 1 or case[1] == 0]).double().unbind(1)
    places = (part * (1 - slope))[:, None] + slope[:, None] * _middles(P)
    return slope, _unit(_bumps(places, slope * spread / P, n)).float()


def _follows_time(D: Tensor, norm: float, slopes: tuple[float, ...] = _SLOPES) -> _Follows:
    P, n = D.shape
    if n > MOST_COLUMNS:
        D = F.adaptive_avg_pool1d(D[None], MOST_COLUMNS)[0] * math.sqrt(n / MOST_COLUMNS)
    make = _time_patterns if slopes is _SLOPES else _time_patterns.__wrapped__
    slope, patterns = make(P, D.shape[1], slopes)
    r = _correlations(D, patterns, norm)
    best = int(r.argmax())
    return _Follows(float(r[best]), float(slope[best]))


def _follows_tones(R: Tensor) -> float:
    """Return the correlation of responses (Q, n) with tones that rise or fall along the axis."""
    D = _apart(R / R.mean(0).clamp_min(1e-30))
    return float(_correlations(D, _tone_patterns(*D.shape), float(D.norm())).max())


@functools.lru_cache(maxsize=24)
def _tone_patterns(Q: int, n: int) -> Tensor:
    powers = (0.35, 0.5, 1.0, 2.0)  # of mel bands to bins of an FFT, and between
    power, spread = torch.tensor(list(itertools.product(powers, (0.5, 1.0, 2.0)))).double().unbind(1)
    places = _middles(Q) ** power[:, None]
    return _unit(torch.cat([_bumps(places, spread / Q, n) for places in (places, 1 - places)])).float()


def _is_frequency(responses: Responses, first: int, second: int) -> bool:
    """Tell whether the first of two axes holds frequency, where it holds channels by convention."""
    R = responses.along(first, tones=True)
    r = _follows_tones(R)
    return r * _freedom(R) >= DEVIATIONS + 1 and r > _follows_tones(responses.along(second, tones=True)) + 0.2


def measure_slope(responses: Responses, layout: Layout) -> float:
    """Return the part of the axis of time that the probes take; more than 1 if its ends are cut off.

    It is 1 if it is close to that, and where fewer than 8 columns cannot tell it.
    """
    D = _apart(torch.stack([layout.over_time(one) for one in responses.moved]))
    if D.shape[1] < 8:
        return 1.0
    norm = float(D.norm())
    rough = _follows_time(D, norm).slope
    fine = _follows_time(D, norm, tuple(rough * (0.9 + 0.01 * k) for k in range(26)))
    return fine.slope if fine.value and abs(fine.slope - 1) > 0.05 else 1.0


def agree(layouts: Mapping[str, Layout], shapes: Mapping[str, Sequence[int]]) -> dict[str, Layout]:
    """Return layouts in which all outputs with tokens of one number have the layout that most of them have.

    The tokens of all layers of a transformer are laid out alike, but not all layers show it equally well.

    Parameters
    ----------
    layouts : mapping
        Of the layers of one network.
    shapes : mapping
        Shapes of their outputs.
    """

    def kind(name: str) -> tuple[str, int] | None:
        kinds = "".join("t" if "t" in axis.names else axis.names for axis in layouts[name].axes)
        return (kinds, shapes[name][kinds.index("t")]) if len(kinds) == 3 else None

    votes: dict[tuple[str, int], Counter[Layout]] = {}
    for name, layout in layouts.items():
        if one := kind(name):
            votes.setdefault(one, Counter())[layout] += 1
    return {
        name: votes[one].most_common(1)[0][0] if (one := kind(name)) else layout for name, layout in layouts.items()
    }


def find_layouts(
    run: Callable[[Any], tuple[Tensor, Sequence[Tensor]]],
    layers: Sequence[str],
    n_samples: int,
    front_end: Callable[[Tensor], Any] | None = None,
) -> dict[str, Layout]:
    """Return the layout of each layer, found by probes.

    Parameters
    ----------
    run : callable
        A `HiddenMaps` or a session: returns scores and the outputs of `layers`.
    layers : sequence of str
    n_samples : int
        Length of the probes.
    front_end : callable, optional
        From samples (B, N) to the network's input; by default that is the samples themselves.

    Raises
    ------
    ValueError
        A layer of which no layout explains the responses, or a network that gives different answers to the same input.
    """

    def outputs(x: Any) -> dict[str, Tensor]:
        scores, maps = run(x)
        return {**dict(zip(layers, maps, strict=True)), "": scores}

    found = respond(outputs, make_probes(n_samples), front_end)
    layouts = {name: find_layout(one, name) for name, one in found.items()}
    return agree(layouts, {name: one.shape for name, one in found.items()})
