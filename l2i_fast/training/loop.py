"""The loop over epochs that the stages of training share: seeded, reported, checkpointed, resumable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from l2i_fast.files import write_whole
from l2i_fast.progress import Report


class Stateful(Protocol):
    """Interface that modules and optimisers share."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state for `load_state_dict`."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Restore a state."""


def seed_of(*parts: Any) -> int:
    """Return a seed for anything printable; the same on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=7).digest(), "big")


def run_epochs(
    stage: str,
    n_epochs: int,
    epoch: Callable[[int], str],
    states: Mapping[str, Stateful],
    checkpoint: Path,
    fingerprint: str,
    seed: int,
    report: Report,
) -> None:
    """Run `epoch(i)` for i in 0 … n_epochs - 1; after each, write a checkpoint from which a later call resumes.

    Every epoch draws its random numbers from a seed of its own, so an interrupted and resumed run gives the same
    weights as an uninterrupted one. `fingerprint` identifies settings and data; a checkpoint with another one raises
    ValueError.
    """
    start = 0
    if checkpoint.exists():
        try:
            saved = torch.load(checkpoint, weights_only=True)
        except Exception as error:  # torch raises a dozen kinds
            raise ValueError(f"{checkpoint} is damaged, but must be whole: remove it") from error
        if saved["fingerprint"] != fingerprint:
            raise ValueError(
                f"{checkpoint} was made with other settings or data; choose another output folder or remove the file"
            )
        for name, part in states.items():
            part.load_state_dict(saved["states"][name])
        start = saved["epoch"]
    report(stage, start, n_epochs, "")
    for i in range(start, n_epochs):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, stage, i))
            message = epoch(i)
        saved = {
            "fingerprint": fingerprint,
            "epoch": i + 1,
            "states": {name: part.state_dict() for name, part in states.items()},
        }
        write_whole(checkpoint, lambda p, saved=saved: torch.save(saved, p))  # type: ignore[misc]
        report(stage, i + 1, n_epochs, message)
