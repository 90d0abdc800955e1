"""What `l2i interpret` and `l2i demo` print about a result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from l2i_fast.cli.console import make_console
from l2i_fast.files import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from l2i_fast.results import Explanation, Result


def print_result(result: Result, written: list[Path], title: str) -> None:
    """Print the predicted classes, the reasons for them, and the names of the files written."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    probability = dict(zip(result.labels, result.probabilities, strict=True))
    heard = ", ".join(f"{label} ({100 * probability[label]:.0f} %)" for label in result.prediction)
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="bold", no_wrap=True)
    lines.add_column(overflow="fold")
    lines.add_row("heard", Text(heard or "none of the model's classes"))
    for explanation in result.explanations:
        lines.add_row("why", _components(result, explanation))
    console = make_console()
    console.print(Panel(lines, title=Text(title), title_align="left", expand=False))
    names = ", ".join(path.name for path in written)
    console.print(Text(f"  in {printable(written[-1].parent)}: {names}"), soft_wrap=True)


def _components(result: Result, explanation: Explanation) -> RenderableType:
    """List the selected components of a class: relevance, main frequency, time of the loudest frame."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from l2i_fast.live.terminal import hertz

    head = Text(f"{explanation.label} ({100 * explanation.probability:.0f} %)")
    if not explanation.supported:
        return head + Text(": no component speaks for it, the interpretation is silent")
    rows = Table.grid(padding=(0, 2))
    for component in explanation.components:
        peak = int(result.dictionary[:, component].argmax()) * result.sample_rate / result.settings["n_fft"]
        second = int(result.activations[component].argmax()) * result.settings["hop_length"] / result.sample_rate
        relevance = float(explanation.relevance[component])
        rows.add_row(
            Text(f"component {component}"),
            Text(f"{'━' * max(1, round(12 * relevance)):12} {relevance:.2f}", "cyan"),
            Text(f"mostly at {hertz(peak)}, loudest at {second:.1f} s"),
        )
    return Group(head, rows)
