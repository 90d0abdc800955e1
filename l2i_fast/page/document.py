"""Documents that work from disk and ask nothing of the network: a folder, or one file.

Data that a document does not need at once stands in blocks, which `Data.load` in data.js reads by their names: scripts
beside index.html, since browsers let no page read other files from disk, or script elements that are not run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from l2i_fast.arguments import flag
from l2i_fast.files import as_path, whole, whole_set

_HERE = Path(__file__).parent


def write_document(
    template: str,
    context: Mapping[str, Any],
    output: str | os.PathLike[str],
    *,
    styles: Sequence[str],
    scripts: Sequence[str],
    blocks: Mapping[str, Any],
    one_file: bool,
    media: bool = False,
) -> Path:
    """Write a document, whole or not at all; the same input gives the same bytes.

    Parameters
    ----------
    template : str
        Name of a Jinja template of this package that extends ``document.html``.
    context : mapping
        Values for the template.
    output : path-like
        A folder, which is made if missing and whose files of the same names are replaced, or a file
        whose name ends in .html.
    styles, scripts : sequence of str
        Names of files of this package; scripts run in this order.
    blocks : mapping of str to values that JSON can write
        Data by their names, which are safe as parts of file names.
    one_file : bool
        Whether `output` is one file that holds everything.
    media : bool
        Whether the document in a folder may show pictures and play sounds from disk.

    Returns
    -------
    Path
        The HTML file.

    Raises
    ------
    ValueError
        One file whose name does not end in .html.
    OSError
        If the output cannot be written.
    """
    output = as_path("output", output)
    assets = {name: (_HERE / name).read_text("utf-8") for name in (*styles, *scripts)}
    names = {"styles": styles, "scripts": scripts}
    if flag(one_file, "one_file"):
        if output.suffix != ".html":  # by which browsers know what it is
            raise ValueError(f"output is {output.name!r}, but must end in .html where it is one file")
        policy = _policy([_hash(assets[name]) for name in scripts], [_hash(assets[name]) for name in styles])
        inlined = {kind: [Markup(assets[name]) for name in chosen] for kind, chosen in names.items()}
        with whole(output) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
            parts = {"inlined": inlined, "blocks": ((name, Markup(_json(value))) for name, value in blocks.items())}
            file.writelines(_rendered(template, {**context, **parts, "policy": policy}))
        return output
    here = ["'self'", "file:"]
    policy = _policy(here, here, here if media else ())
    # index.html comes last: if it exists, so do the files that it names.
    with whole_set(output, last="index.html") as folder:
        for name in assets:
            shutil.copyfile(_HERE / name, folder / name)
        for name, value in blocks.items():
            text = f"Data.receive({json.dumps(name)}, {_json(value)});\n"
            (folder / f"data-{name}.js").write_text(text, "utf-8")
        with (folder / "index.html").open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(_rendered(template, {**context, **names, "policy": policy}))
    return output / "index.html"


def _rendered(template: str, context: Mapping[str, Any]) -> Iterator[str]:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).generate(context)


def _policy(scripts: Sequence[str], styles: Sequence[str], media: Sequence[str] = ()) -> str:
    """Return a content security policy under which the document loads its own files and nothing else."""
    sounds = f"media-src {' '.join(media)}; " if media else ""
    return (
        f"default-src 'none'; script-src {' '.join(scripts)}; style-src {' '.join(styles)}; "
        f"img-src {' '.join([*media, 'data:'])}; {sounds}base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(value: Any) -> str:
    """Return JSON that also stands safely in a script element."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
