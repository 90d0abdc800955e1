"""Cases and calls of the command for the tests of the benchmarks."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner

from l2i_fast import cli
from l2i_fast.bench.case import Answer, Case, Prepare


def bench(*arguments: Any) -> Any:
    """Run `l2i bench`."""
    return CliRunner().invoke(cli.app, ["bench", *map(str, arguments)])


def case_of(ours: Prepare, **values: Any) -> Case:
    """Make a case of which only some values matter."""
    exact: Answer = ours()
    given = {"operation": "stft", "size": "clip", "dims": "", "flops": 1.0, "bytes": 1.0, "exact": exact}
    return Case(**given | {"ours": {"ours": ours}, **values})
