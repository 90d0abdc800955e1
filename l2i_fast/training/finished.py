"""What training has finished, kept in files with a fingerprint of the settings and recordings behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from l2i_fast.files import write_whole


def fingerprint(*parts: Any) -> str:
    """Return a short text that differs between different parts, anything with a `repr` of its own."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def finished(file: Path, fingerprint: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    """Return the weights that a file keeps or, if it does not exist, those that `make` returns, which it keeps then.

    Raises
    ------
    ValueError
        A damaged file, or one with another fingerprint.
    """
    if file.exists():
        if not finished_with(file, fingerprint):
            raise ValueError(
                f"{file} was made with other settings or clips; choose another output folder or remove the file"
            )
        with _opened(file) as saved:
            return {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118 - not a mapping
    weights = {name: value.contiguous() for name, value in make().items()}
    write_whole(file, lambda p: p.write_bytes(save(weights, metadata={"fingerprint": fingerprint})))
    return weights


def finished_with(file: Path, fingerprint: str) -> bool:
    """Whether a file exists and keeps weights with this fingerprint.

    Raises
    ------
    ValueError
        A damaged file.
    """
    if not file.exists():
        return False
    with _opened(file) as saved:
        return bool((saved.metadata() or {}).get("fingerprint") == fingerprint)


def _opened(file: Path) -> safe_open:
    try:
        return safe_open(file, "pt")
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file} is damaged ({error}), but must be whole: remove it") from error
