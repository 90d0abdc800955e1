"""The application that the commands are added to: exit statuses, and one line on stderr for every error."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from l2i_fast.backends.dispatch import BackendError

# Older releases of typer take this class from click, newer ones bring a copy: it is the right one in both.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class Commands(TyperGroup):
    """Ends every command with a status: 0, or 2 for wrong usage, 1 for a failure, 130 for Ctrl-C, SIGTERM and SIGHUP.

    An error is one line on stderr, never a traceback.
    """

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Run the command line and exit."""
        options |= {"prog_name": "l2i", "standalone_mode": False}
        status: Any
        try:
            status = super().main(*args, **options) or 0
        except BrokenPipeError:
            status = 1  # the reader has gone, as with `head`
        except UsageError as error:
            context = getattr(error, "ctx", None)
            hint = f" (see '{context.command_path} --help')" if context else ""
            message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
            print_error(f"{message}{hint}")
            status = 2
        except Exception as error:
            print_error(describe(error))
            status = 1
        sys.exit(_flush(status))

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command; a warning is one line, and Ctrl-C, SIGTERM or SIGHUP ends it with one line."""
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _print_warning
                return super().invoke(ctx)
        except KeyboardInterrupt:
            raise interrupted() from None


def _flush(status: Any) -> Any:
    """Write the rest of standard output; return `status`, or 1 if all went well but this fails."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError as error:
        # Nothing more can be written, not even at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not status and not isinstance(error, BrokenPipeError):
            print_error(describe(error))
        return status or 1
    return status


def describe(error: Exception) -> str:
    """Describe an error in one line."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, (ValueError, TypeError, OSError, ImportError, BackendError)) and str(error):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def print_error(text: str) -> None:
    """Print an error as one line on stderr."""
    print(f"l2i: error: {' '.join(text.split())}", file=sys.stderr)


def _print_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line on stderr."""
    print(f"l2i: warning: {' '.join(str(message).split())}", file=sys.stderr)


def interrupted(note: str = "") -> typer.Exit:
    """Report an interrupt in one line on stderr; return the exception that ends the command with status 130."""
    print("; ".join(filter(None, ("l2i: interrupted", note))), file=sys.stderr)
    return typer.Exit(130)


app = typer.Typer(
    name="l2i",
    cls=Commands,
    help="Hear why an audio network decided what it decided.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from l2i_fast.version import __version__

        print(f"l2i_fast {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _without_command(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)
