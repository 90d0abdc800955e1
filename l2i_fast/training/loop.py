"""The loop over epochs that every stage of training shares: seeded, reported, checkpointed, resumable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from l2i_fast.files import write_whole
from l2i_fast.progress import Report


class Stateful(Protocol):
    """What modules and optimisers have in common."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Take over a state."""


def seed_of(*parts: Any) -> int:
    """A seed from anything printable; the same on every machine."""
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
    """Run `epoch(i)` for i in 0 … n_epochs - 1; after each, write a checkpoint from which a later call goes on.

    Every epoch draws its random numbers from a seed of its own, so a run that was cut off and resumed gives the same
    weights as one that was not. `fingerprint` says what is trained; a checkpoint of anything else is refused.
    """
    start = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
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
