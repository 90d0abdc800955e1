"""The process of the command: its standard streams and the signals that end it, however it was started."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

#: Signals that end a command as Ctrl-C does.
ENDING = signal.SIGTERM, signal.SIGHUP


def prepare_process() -> None:
    """Keep files out of standard streams that are closed, let no message stop the work, and end it on signals.

    Matplotlib's warnings about the user's settings are left out.

    Standard input and output that are closed remain None in `sys`.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # the next file would get this number, and what is meant for the stream
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Messages(2, "w", closefd=False)),
        encoding=sys.stderr.encoding if sys.stderr else "utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )
    if sys.stdout and hasattr(sys.stdout, "reconfigure"):  # names of files may hold what the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:  # as by nohup
            signal.signal(number, _interrupt)
    if os.environ.get("COLUMNS") == "0":  # as some shells set it; rich would print nothing
        del os.environ["COLUMNS"]
    # Pictures depend neither on the user's settings of matplotlib nor on a home folder that it can write to.
    os.environ["MPLBACKEND"] = "agg"
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def ignore_signals() -> None:
    """Let no signal change the status of a command that has ended."""
    for number in (signal.SIGINT, *ENDING):
        signal.signal(number, signal.SIG_IGN)


class _Messages(io.FileIO):
    """Standard error. A full device, or a reader that has gone, does not stop the work: the message is lost."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or len(data)
        except OSError:
            return len(data)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    # The first one counts: a shell may send SIGHUP, and `timeout` SIGTERM, once more while the command cleans up.
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt
