"""`l2i data`: fetch recordings for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from l2i_fast.cli.options import output_folder

app = typer.Typer(help="Fetch recordings for training.")

Folder = Annotated[Path, output_folder("Folder to create.")]
Url = Annotated[str | None, typer.Option(show_default="its authors' repository", help="Address of the zip archive.")]
Checksum = Annotated[str | None, typer.Option(help="Checksum of the archive, if it is a copy of your own.")]


@app.command()
def esc50(output: Folder = Path("data/ESC-50"), url: Url = None, sha256: Checksum = None) -> None:
    """Download ESC-50, about 600 MB (CC BY-NC 3.0). An interrupted download resumes where it stopped."""
    from l2i_fast.data.download import ESC50_URL, fetch_esc50

    folder = fetch_esc50(output, url or ESC50_URL, sha256, progress=True)
    print(f"ESC-50 is in {folder}: name it with --data {folder} or L2I_DATA={folder}")
