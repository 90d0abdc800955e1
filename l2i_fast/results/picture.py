"""The picture of an interpretation: the recording, its interpretation, and the components that decided.

Drawn with matplotlib's object interface on an Agg canvas of its own, without pyplot, and with matplotlib's default
settings, whatever those of the user are. Several threads can draw pictures; they take turns, since the settings are
global. Every panel is reduced to a fixed number of columns before it is drawn, and the spectrograms are computed piece
by piece: drawing an hour of sound takes no more memory than a minute.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator
from numpy.typing import NDArray

from l2i_fast import forks
from l2i_fast.ops.stft import stft
from l2i_fast.results.drawn import Drawn
from l2i_fast.results.explanation import Explanation

# Okabe and Ito's palette, told apart with every colour blindness; without yellow, too pale on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK = "#222222"
GREY = "#9a9a9a"
SHOWN_DB = 80.0
MAX_COLUMNS = 500  # a little less than a panel's width in pixels, so that drawing drops no column
N_ROWS = 256
BLOCK_FRAMES = 2048
FONT = "DejaVu Sans"  # comes with matplotlib, so that the picture is the same everywhere


_turn = forks.lock(forks.CALL)


@contextmanager
def default_style() -> Iterator[None]:
    """Use matplotlib's default settings inside the `with` block, one thread at a time; then restore the user's."""
    settings: dict[Any, Any] = {name: value for name, value in rcParamsDefault.items() if name != "backend"}
    with _turn, rc_context(settings):
        yield


@default_style()
def save_picture(path: str | os.PathLike[str], result: Drawn, explanation: Explanation) -> None:
    """Write the picture of `explanation`, one of `result`'s, to `path` as PNG (1690 x 1105 pixels): see `draw`."""
    draw(result, explanation).savefig(path, format="png", metadata={"Software": None})


def draw(result: Drawn, explanation: Explanation) -> Figure:
    """Draw `explanation`, one of `result`'s.

    From the top left: spectrograms of the recording and of its interpretation in dB below the recording's
    peak, on one colour scale; the spectra of the selected components on the same frequency axis (mel scale,
    in Hz); the relevance of every component; the selected components' activations over time. A component has
    the same colour in every panel; of more than six selected ones the six most relevant are drawn.

    For a method without a dictionary, the mask takes the place of the components' spectra, and relevance, if the method
    has one, is that of its attributes or blocks.
    """
    figure = Figure(figsize=(13, 8.5), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    _title(figure, result, explanation)

    def panel(left: float, bottom: float, width: float, height: float) -> Axes:
        return figure.add_axes((left, bottom, width, height))

    if _has_components(result, explanation):
        coloured = dict(zip(explanation.components, COLOURS, strict=False))
        heard, kept, scale = (
            panel(left, 0.45, width, 0.4) for left, width in ((0.06, 0.31), (0.405, 0.31), (0.723, 0.009))
        )
        _spectra(panel(0.82, 0.45, 0.16, 0.4), result, coloured)
        _relevance(panel(0.06, 0.085, 0.31, 0.255), result, explanation, coloured, "component")
        _activations(panel(0.405, 0.085, 0.31, 0.255), result, coloured)
        _key(panel(0.82, 0.085, 0.16, 0.255), explanation, coloured)
    else:
        bottom, height = (0.45, 0.4) if len(explanation.relevance) else (0.085, 0.765)
        heard, kept, scale = (
            panel(left, bottom, width, height) for left, width in ((0.06, 0.25), (0.345, 0.25), (0.603, 0.009))
        )
        if explanation.mask is not None:
            _mask(panel(0.665, bottom, 0.25, height), panel(0.923, bottom, 0.009, height), result, explanation.mask)
        if len(explanation.relevance):
            chosen = dict.fromkeys(explanation.components, COLOURS[0])
            _relevance(panel(0.06, 0.085, 0.855, 0.255), result, explanation, chosen, "part")
    figure.colorbar(_spectrograms(heard, kept, result, explanation), cax=scale)
    _dress(scale, "dB")
    return figure


def _has_components(result: Drawn, explanation: Explanation) -> bool:
    return explanation.mask is None and len(result.activations) > 0


def _title(figure: Figure, result: Drawn, explanation: Explanation) -> None:
    heard = ", ".join(
        f"{label} ({_percent(result.probabilities[result.labels.index(label)])})" for label in result.prediction
    )
    chosen, total = len(explanation.components), len(explanation.relevance)
    has_components = _has_components(result, explanation)
    if not explanation.supported:
        why = f"{'No component' if has_components else 'Nothing'} speaks for it, so the interpretation is silent."
    elif has_components:
        why = f"Explained by {chosen} of {total} components; what the others hold is masked out."
    else:
        why = f"Explained by “{_shorten(result.method, 40)}”" + (f": {chosen} of {total} parts." if total else ".")
    label = f"{_shorten(explanation.label, 40)}”, {_percent(explanation.probability)}"
    name = _shorten(os.path.basename(result.source) or result.source, 60)
    lines = (
        (0.945, f"{name}: heard as {_shorten(heard, 60) or 'none of the classes'}", 16, "bold"),
        (0.905, f"Why “{label}?  {why}", 12.5, "normal"),
    )
    for y, text, size, weight in lines:
        line = figure.text(0.06, y, drawable(text), size=size, weight=weight, color=INK, family=FONT, parse_math=False)
        room = 0.92 * figure.bbox.width
        line.set_fontsize(min(size, size * room / line.get_window_extent().width))


def _spectrograms(heard: Axes, kept: Axes, result: Drawn, explanation: Explanation) -> AxesImage:
    n_fft, hop = result.settings["n_fft"], result.settings["hop_length"]
    magnitudes = [_picture_of(audio, result.sample_rate, n_fft, hop) for audio in (result.input, explanation.audio)]
    loudest = float(magnitudes[0].max())
    top = float(_mel(result.sample_rate / 2))
    for axes, magnitude, title in zip(
        (heard, kept), magnitudes, ("The recording", "The interpretation: what speaks for it"), strict=True
    ):
        floor = loudest * 10 ** (-SHOWN_DB / 20)
        decibels = 20 * np.log10(np.maximum(magnitude, floor) / loudest) if loudest else magnitude - SHOWN_DB
        image = axes.imshow(
            decibels,
            origin="lower",
            aspect="auto",
            extent=(*_ends(result), 0.0, top),
            cmap="magma",
            vmin=-SHOWN_DB,
            vmax=0,
            interpolation="nearest",
        )
        _dress(axes, title)
        _time_axis(axes, result)
        _frequency_axis(axes, result.sample_rate)
        if not magnitude.any():
            _say(axes, "silence", "white")
    heard.set_ylabel("Frequency (Hz)", color=INK, family=FONT)
    kept.tick_params(labelleft=False)
    return image


def _ends(result: Drawn) -> tuple[float, float]:
    """Return the ends in seconds of a picture of all frames: a frame stands for the hop around its centre."""
    hop, n = result.settings["hop_length"], len(result.input)
    # The last frame stands for the rest of the recording.
    return -0.5 * hop / result.sample_rate, max((n // hop + 0.5) * hop, n) / result.sample_rate


def _spectra(axes: Axes, result: Drawn, coloured: dict[int, str]) -> None:
    n_bins = len(result.dictionary)
    mel = _mel(np.arange(n_bins) * result.sample_rate / result.settings["n_fft"])
    for lane, (component, colour) in enumerate(coloured.items()):
        spectrum = result.dictionary[:, component]
        peak = float(spectrum.max()) or 1.0
        axes.fill_betweenx(mel, lane, lane + 0.92 * spectrum / peak, color=colour, linewidth=0)
    axes.set_xlim(-0.04, max(1, len(coloured)))
    axes.set_xticks([lane + 0.46 for lane in range(len(coloured))], [str(component) for component in coloured])
    axes.tick_params(axis="x", length=0)
    _dress(axes, "Component spectra")
    _frequency_axis(axes, result.sample_rate)
    axes.set_xlabel("Component", color=INK, family=FONT)
    if not coloured:
        _say(axes, "none selected", GREY)


def _mask(axes: Axes, scale: Axes, result: Drawn, mask: NDArray[np.float32]) -> None:
    starts = _column_starts(mask.shape[1])
    rows = _rows(result.sample_rate, result.settings["n_fft"])
    # Columns first: a mask may be a view that repeats one value.
    cells = np.maximum.reduceat(np.maximum.reduceat(mask, starts, axis=1), rows, axis=0)
    extent = (*_ends(result), 0.0, float(_mel(result.sample_rate / 2)))
    image = axes.imshow(
        cells, origin="lower", aspect="auto", extent=extent, cmap="gray", vmin=0, vmax=1, interpolation="nearest"
    )
    _dress(axes, "The mask: what is kept")
    _time_axis(axes, result)
    _frequency_axis(axes, result.sample_rate)
    axes.tick_params(labelleft=False)
    axes.figure.colorbar(image, cax=scale)
    _dress(scale, "share")


def _relevance(axes: Axes, result: Drawn, explanation: Explanation, coloured: dict[int, str], part: str) -> None:
    relevance = np.asarray(explanation.relevance, dtype=np.float64)
    chosen = set(explanation.components)
    colours = [coloured.get(k, "#555555" if k in chosen else "#c8c8c8") for k in range(len(relevance))]
    axes.bar(np.arange(len(relevance)), relevance, width=0.9, color=colours)
    axes.axhline(0, color=INK, linewidth=0.8)
    below = part.capitalize()
    threshold = result.settings.get("threshold")
    if explanation.supported and threshold is not None:
        axes.axhline(threshold, color=INK, linewidth=0.8, linestyle="--")
        below += f"   (dashed: threshold {threshold:g})"
    axes.set_xlim(-0.8, max(len(relevance) - 0.2, 4.2))
    # Support for the class stays readable next to large values against it.
    axes.set_ylim(max(-2.0, min(-0.1, 1.1 * float(relevance.min()))), 1.15)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    _dress(axes, f"Relevance: which {part}s speak for it")
    axes.set_xlabel(below, color=INK, family=FONT)
    if not explanation.supported:
        _say(axes, f"no {part} supports this class", INK)


def _activations(axes: Axes, result: Drawn, coloured: dict[int, str]) -> None:
    n_frames = result.activations.shape[1]
    starts = _column_starts(n_frames)
    middles = (starts + np.append(starts[1:], n_frames) - 1) / 2
    times = middles * result.settings["hop_length"] / result.sample_rate
    for component, colour in reversed(coloured.items()):
        activity = np.maximum.reduceat(result.activations[component], starts)
        few = len(times) < 4  # too few for a line to show
        axes.plot(times, activity, color=colour, linewidth=1.4, marker="o" if few else None, clip_on=not few)
    axes.set_ylim(bottom=0)
    _dress(axes, "Activations: when they sound")
    _time_axis(axes, result)
    if not coloured:
        axes.set_yticks([])
        _say(axes, "none selected", GREY)


def _key(axes: Axes, explanation: Explanation, coloured: dict[int, str]) -> None:
    axes.set_axis_off()
    axes.set_title("Components", loc="left", fontsize=11, color=INK, family=FONT)
    if coloured:
        axes.set_title("relevance", loc="right", fontsize=9, color=INK, family=FONT)
    rows = [
        (colour, f"component {component}", f"{explanation.relevance[component]:.2f}")
        for component, colour in coloured.items()
    ]
    left_out = len(explanation.components) - len(coloured)
    if left_out:
        rows.append(("#555555", f"and {left_out} less relevant", ""))
    if not rows:
        axes.text(0, 0.93, "none selected", fontsize=10.5, color=GREY, family=FONT, va="center")
    for row, (colour, name, relevance) in enumerate(rows):
        y = 0.93 - 0.125 * row
        axes.plot([0.0, 0.1], [y, y], color=colour, linewidth=5, solid_capstyle="butt")
        axes.text(0.15, y, name, fontsize=10.5, color=INK, family=FONT, va="center")
        axes.text(1.0, y, relevance, fontsize=10.5, color=INK, family=FONT, va="center", ha="right")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=INK, family=FONT)
    axes.tick_params(labelsize=9, colors=INK, labelfontfamily=FONT)
    if not axes.images:
        axes.spines[["top", "right"]].set_visible(False)


def _say(axes: Axes, text: str, colour: str) -> None:
    axes.text(
        0.5,
        0.5,
        text,
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=12,
        color=colour,
        family=FONT,
    )


def _time_axis(axes: Axes, result: Drawn) -> None:
    duration = len(result.input) / result.sample_rate
    axes.set_xlim(0, duration)
    if duration < 1:
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda s, _: f"{1000 * s:.3g}"))
        unit = "ms"
    elif duration < 120:
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        unit = "s"
    else:
        step = next((step for step in (30, 60, 120, 300, 600, 900, 1800) if duration <= 6 * step), 3600)
        axes.xaxis.set_major_locator(MultipleLocator(step))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda s, _: f"{int(s) // 60}:{int(s) % 60:02d}"))
        unit = "min:s"
    axes.set_xlabel(f"Time ({unit})", color=INK, family=FONT)


def _frequency_axis(axes: Axes, sample_rate: int) -> None:
    shown = [f for f in (0, 250, 500, 1000, 2000, 4000, 8000, 16000, 32000, 64000) if f <= sample_rate / 2]
    axes.set_ylim(0, float(_mel(sample_rate / 2)))
    axes.set_yticks([float(_mel(f)) for f in shown], [f"{f // 1000}k" if f >= 1000 else str(f) for f in shown])


def _picture_of(audio: NDArray[np.float32], sample_rate: int, n_fft: int, hop: int) -> NDArray[np.float32]:
    """Return the largest magnitude of the STFT in each cell of the picture, at most N_ROWS x MAX_COLUMNS."""
    rows = _rows(sample_rate, n_fft)
    n_frames = 1 + len(audio) // hop
    starts = _column_starts(n_frames)
    picture = np.zeros((N_ROWS, len(starts)), dtype=np.float32)
    for first, block in _blocks(audio, n_fft, hop):
        column = np.searchsorted(starts, first, side="right") - 1
        last = np.searchsorted(starts, first + block.shape[1] - 1, side="right")
        cuts = np.maximum(starts[column:last] - first, 0)
        cells = np.maximum.reduceat(np.maximum.reduceat(block, cuts, axis=1), rows, axis=0)
        picture[:, column:last] = np.maximum(picture[:, column:last], cells)
    return picture


def _rows(sample_rate: int, n_fft: int) -> NDArray[np.intp]:
    """Return the first frequency bin of each of N_ROWS rows on the mel scale."""
    edges = _hertz(np.linspace(0, float(_mel(sample_rate / 2)), N_ROWS + 1)[:-1])
    rows: NDArray[np.intp] = np.minimum(np.round(edges * n_fft / sample_rate).astype(np.intp), n_fft // 2)
    return rows


def _blocks(audio: NDArray[np.float32], n_fft: int, hop: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield pieces of |STFT| (centred frames, zeros beyond the ends) with the number of their first frame."""
    n_frames = 1 + len(audio) // hop
    for first in range(0, n_frames, BLOCK_FRAMES):
        count = min(BLOCK_FRAMES, n_frames - first)
        begin, end = first * hop - n_fft // 2, (first + count - 1) * hop - n_fft // 2 + n_fft
        piece = np.pad(audio[max(begin, 0) : min(end, len(audio))], (max(-begin, 0), max(end - len(audio), 0)))
        yield first, np.abs(stft(piece, n_fft=n_fft, hop_length=hop, center=False))


def _column_starts(n_frames: int) -> NDArray[np.intp]:
    """Return the first frame of each of at most MAX_COLUMNS groups of frames."""
    columns = min(n_frames, MAX_COLUMNS)
    return np.arange(columns, dtype=np.intp) * n_frames // columns


def _mel(hertz: Any) -> Any:
    """O'Shaughnessy's mel scale: about linear below 700 Hz, logarithmic above."""
    return 2595.0 * np.log10(1.0 + np.asarray(hertz) / 700.0)


def _hertz(mel: Any) -> Any:
    return 700.0 * (10.0 ** (np.asarray(mel) / 2595.0) - 1.0)


def _percent(probability: float) -> str:
    return f"{100 * float(probability):.0f} %"


def _shorten(text: str, length: int) -> str:
    """Cut the middle out of a long text: both ends of a file name are informative."""
    if len(text) <= length:
        return text
    return f"{text[: length // 2 - 1]}…{text[-(length - length // 2) :]}"


def drawable(text: str) -> str:
    """Replace characters that `FONT` lacks, which matplotlib would warn about and draw as boxes."""
    glyphs = get_font(findfont(FONT)).get_charmap()
    return "".join(character if ord(character) in glyphs else "?" for character in text)
