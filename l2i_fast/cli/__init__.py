"""The command `l2i`: one module for each of its commands, assembled here in the order of its help.

A command imports heavy modules when it runs, so that help appears at once.
"""

from l2i_fast.cli import batch, bench, data, demo, doctor, evaluate, fit, interpret, page, stream, train
from l2i_fast.cli.application import app
from l2i_fast.cli.process import ignore_signals, prepare_process

__all__ = ["app", "main"]

for _command in (
    interpret.interpret,
    batch.batch,
    stream.stream,
    demo.demo,
    doctor.doctor,
    fit.fit,
    train.train,
    evaluate.evaluate,
    train.cross_validate,
    page.page,
    page.answers,
    bench.bench,
):
    app.command()(_command)
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command `l2i`."""
    prepare_process()
    try:
        app()
    finally:
        ignore_signals()
