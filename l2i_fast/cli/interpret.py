"""`l2i interpret`: explain recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from l2i_fast.cli.application import describe, print_error
from l2i_fast.cli.options import (
    Device,
    MaskDomain,
    Model,
    Network,
    Targets,
    Threshold,
    TopK,
    checked,
    output_folder,
    selection,
)
from l2i_fast.cli.results import print_result
from l2i_fast.files import printable
from l2i_fast.results.formats import AudioFormat

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE",
        readable=False,  # one that cannot be read must not stop the others
        help="Recordings: WAV, FLAC, OGG, MP3 and others.",
    ),
]
Folder = Annotated[Path, output_folder("Folder in which each recording gets one of its own.")]
Format = Annotated[
    AudioFormat, typer.Option("--format", help="Format of the sound files.", **checked("format", AudioFormat))
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead, one line for each recording.")]


def interpret(
    files: Files,
    model: Model = "esc10",
    network: Network = None,
    target: Targets = None,
    threshold: Threshold = None,
    top_k: TopK = None,
    domain: MaskDomain = None,
    output: Folder = Path("out"),
    audio_format: Format = "wav",
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Show which classes a model hears in recordings, and why: as sound, as a picture and in numbers."""
    from l2i_fast.model import load

    engine = load(model, network).to(device)
    settings = selection(engine, target, threshold, top_k, domain)
    failed = False
    for position, (file, folder) in enumerate(zip(files, folders(files, output), strict=True), start=1):
        try:
            result = engine.interpret(file, **settings)
            written = result.save(folder, audio_format)
        except Exception as error:  # the other recordings are still to be done
            text = describe(error)
            print_error(text if str(file) in text else f"{file}: {text}")
            failed = True
            continue
        if as_json:
            print(json.dumps({"folder": printable(folder)} | json.loads(written[-1].read_text())), flush=True)
        else:
            name = printable(file.name)
            print_result(result, written, f"{name} ({position} of {len(files)})" if len(files) > 1 else name)
    if failed:
        raise typer.Exit(1)


def folders(files: list[Path], output: Path) -> list[Path]:
    """Return a folder for each recording, different ones for recordings of the same name."""
    taken: set[str] = set()
    chosen = []
    for file in files:
        stem = file.stem.strip(".") or "recording"
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        chosen.append(output / name)
    return chosen
