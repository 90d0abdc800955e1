"""Draw latency.png, the timeline of docs/streaming.md: python docs/images/latency.py."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from l2i_fast.files import write_whole
from l2i_fast.results.picture import COLOURS, FONT, GREY, INK, default_style

RATE, N_FFT, HOP, BLOCK, REFRESH, FADE = 44100, 1024, 512, 512, 0.25, 4
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = COLOURS


def ms(samples: float) -> float:
    """Return the duration of samples in ms."""
    return 1000 * samples / RATE


def draw() -> Figure:
    """Draw the delays of a sample above, and those of a decision below."""
    figure = Figure(figsize=(11, 6.6), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    sample(figure.add_axes((0.13, 0.55, 0.84, 0.37)))
    decision(figure.add_axes((0.13, 0.09, 0.84, 0.33)))
    return figure


def sample(axes: Axes) -> None:
    """Draw the delays of a sample from the microphone to the speaker."""
    device = 9.0  # an example: it depends on the system
    early = 0.3 * ms(HOP)  # from the start of the last frame with the sample
    frame, latency, block = ms(N_FFT) - early, ms(N_FFT), ms(BLOCK)
    style(axes, "Delays of a sample: 1,024 samples a frame, hop 512, blocks of 512, 44.1 kHz")
    bars = [
        (-device, device, GREY, "microphone", True),
        (0, frame, BLUE, "until the last frame that contains it is complete", False),
        (frame, early, SKY, "", False),
        (latency, block, ORANGE, "until its block is full", False),
        (latency + block, device, GREY, "speaker", True),
    ]
    for start, width, colour, text, hatched in bars:
        axes.barh(0, width, 0.62, start, color="white" if hatched else colour, edgecolor=colour, hatch="///" * hatched)
        label(axes, start + width / 2, 0, text, INK if hatched else "white", hatched)
    x = np.linspace(0, ms(N_FFT), 200)
    for k in (-2, -1, 0, 1):
        shape = 1.0 + 0.75 * np.sin(np.pi * x / x[-1]) ** 2
        axes.fill_between(k * ms(HOP) - early + x, shape, 1.0, color=GREY if k else BLUE, alpha=0.3, linewidth=0)
    axes.vlines(0, 0.31, 1.95, color=INK, linewidth=1.4)
    axes.text(-0.4, 1.98, "the sample", ha="right", va="center", fontsize=9, color=INK, family=FONT)
    axes.text(
        ms(N_FFT) / 2 - early, 1.98, "the last frame that contains it", ha="center", va="center", fontsize=9, color=BLUE
    )
    axes.annotate(
        "so that all samples have the same delay",
        (frame + early / 2, 0.33),
        (frame + early / 2, 0.74),
        fontsize=9,
        color=INK,
        family=FONT,
        ha="center",
        va="center",
        arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.8},
    )
    span(axes, 0, latency, -0.52, f"latency: {N_FFT:,} samples = {latency:.1f} ms")
    span(axes, latency, latency + block, -0.52, f"block: at most {block:.1f} ms")
    axes.set_ylim(-1.0, 2.2)
    axes.set_yticks([0, 1.35], ["delays", "frames"])
    axes.set_xlim(-device - 1, latency + block + device + 1)
    axes.set_xlabel("ms", color=INK, family=FONT, fontsize=9)


def decision(axes: Axes) -> None:
    """Draw the delays from a new sound to the mask that follows from it."""
    network, begins = 40.0, 80.0  # as an example
    refresh, fade, end = 1000 * REFRESH, ms(FADE * HOP), 600
    style(axes, "Delays of a decision: a refresh every 0.25 s, which does not delay the sound")
    bars = [
        (begins, refresh - begins, ORANGE, "until the next refresh"),
        (refresh, network, PINK, "network"),
        (refresh + network, fade, GREEN, "fade"),
    ]
    for left, width, colour, text in bars:
        axes.barh(1.0, width, 0.55, left, color=colour)
        label(axes, left + width / 2, 1.0, text, "white", False)
    axes.vlines([0, refresh, 2 * refresh], -1.15, 1.75, color=GREY, linewidth=1, linestyle=":")
    for k in range(3):
        axes.text(k * refresh + 4, 1.62, "refresh", fontsize=9, color=INK, family=FONT)
    axes.barh(0.1, end - begins, 0.42, begins, color=SKY, alpha=0.5)
    axes.text(begins + 8, 0.1, "a new sound", fontsize=9, color=INK, family=FONT, va="center")
    old, new = refresh + network, refresh + network + fade
    x = np.array([0, old, new, end])
    axes.plot(x, -1.0 + 0.5 * np.array([1, 1, 0, 0]), color=GREY, linewidth=2)
    axes.plot(x, -1.0 + 0.5 * np.array([0, 0, 1, 1]), color=GREEN, linewidth=2)
    axes.text(
        old - 8, -0.46, "components of the old decision", fontsize=9, color=INK, family=FONT, va="bottom", ha="right"
    )
    axes.text(new + 8, -0.46, "components of the new decision", fontsize=9, color=GREEN, va="bottom")
    axes.set_ylim(-1.15, 1.85)
    axes.set_yticks([1.0, 0.1, -0.75], ["delays", "sound", "weights"])
    axes.set_xlim(0, end)
    axes.set_xlabel("ms (the time of the network is an example)", color=INK, family=FONT, fontsize=9)


def label(axes: Axes, x: float, y: float, text: str, colour: str, boxed: bool) -> None:
    """Write a text into a bar."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5} if boxed else None
    axes.text(x, y, text, ha="center", va="center", fontsize=9, color=colour, family=FONT, bbox=box)


def span(axes: Axes, left: float, right: float, y: float, text: str) -> None:
    """Draw a dimension line."""
    axes.annotate("", (left, y), (right, y), arrowprops={"arrowstyle": "<->", "color": INK, "shrinkA": 0, "shrinkB": 0})
    axes.text((left + right) / 2, y - 0.12, text, ha="center", va="top", fontsize=9.5, color=INK, family=FONT)


def style(axes: Axes, title: str) -> None:
    """Set the title of axes and remove ticks and spines that are not needed."""
    axes.set_title(title, loc="left", fontsize=11, color=INK, family=FONT)
    axes.tick_params(labelsize=9, colors=INK, labelfontfamily=FONT)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


if __name__ == "__main__":
    target = Path(__file__).with_name("latency.png")
    with default_style():
        write_whole(target, lambda path: draw().savefig(path, metadata={"Software": None}))
