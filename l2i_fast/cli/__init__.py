"""The command `l2i`: one module for each of its commands, assembled here in the order of its help.

The commands import what is heavy when they run, so that help appears at once.
"""

from l2i_fast.cli import app, bench, data, demo, doctor, evaluate, interpret, stream, train

for _command in (
    interpret.interpret,
    stream.stream,
    demo.demo,
    doctor.doctor,
    train.train,
    evaluate.evaluate,
    train.cross_validate,
    bench.bench,
):
    app.app.command()(_command)
app.app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command `l2i`."""
    app.app()
