"""What a network hears in recordings: spectra, scores and hidden maps, computed once and kept on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from l2i_fast.arrays import host
from l2i_fast.audio import read_sound
from l2i_fast.files import printable, write_whole
from l2i_fast.model.audited import AuditedNetwork
from l2i_fast.progress import Report

#: Half precision holds no larger numbers.
_LARGEST = 65504.0


class Batch(NamedTuple):
    """What a network hears in B pieces of equal length.

    Attributes
    ----------
    y : Tensor (B, N)
        Samples.
    V : Tensor (B, F, T)
        ``log(1 + |X|)``.
    logits : Tensor (B, C)
    maps : list of Tensors (B, channels, time, frequency)
    """

    y: Tensor
    V: Tensor
    logits: Tensor
    maps: list[Tensor]


class Heard:
    """Pieces of recordings, of one length, with what a network hears in them, kept in a folder.

    Recordings are cut into pieces; what is left at the end, and a recording shorter than a piece, is padded with
    silence if it is half a piece or more, or all that there is. Recordings that a former call has heard are not heard
    again.

    Parameters
    ----------
    network : AuditedNetwork
    recordings : sequence of path-like or (samples, sample_rate)
    n_samples : int
        Of a piece, at the network's rate.
    folder : Path
        Of the files, one for each recording.
    key : str
        Fingerprint of network and recordings.
    report : callable

    Attributes
    ----------
    problems : dict
        Name of each recording that cannot be read, and why.

    Raises
    ------
    ValueError
        The folder is of another network or other recordings, or no recording can be read.
    """

    def __init__(
        self,
        network: AuditedNetwork,
        recordings: Sequence[Any],
        n_samples: int,
        folder: Path,
        key: str,
        report: Report,
    ) -> None:
        self._folder = folder
        self.problems: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / "key.json"
        if mark.exists() and json.loads(mark.read_text("utf-8")) != key:
            raise ValueError(
                f"{folder} is of another network, other recordings or other pieces: choose another, or remove it"
            )
        write_whole(mark, lambda p: p.write_text(json.dumps(key), "utf-8"))
        self._pieces: list[tuple[Path, int]] = []
        self.recordings: list[int] = []
        for i, source in enumerate(recordings):
            name = f"recording {i}" if isinstance(source, tuple) else printable(source)
            file = folder / f"{i:06d}.safetensors"
            try:
                count = _count(file)
                if count is None:
                    count = _hear(network, source, n_samples, file)
            except (OSError, ValueError) as error:
                self.problems[name] = str(error)
                count = 0
            self._pieces += [(file, piece) for piece in range(count)]
            self.recordings += [i] * count
            report("recordings", i + 1, len(recordings), name)
        if not self._pieces:
            first = next(iter(self.problems.values()), "they are silent" if recordings else "there are none")
            raise ValueError(f"recordings hold nothing to learn from: {first}")

    def __len__(self) -> int:
        return len(self._pieces)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Return what the network hears in some pieces."""
        rows = [_read(*self._pieces[i]) for i in indices]
        y, V, logits, *maps = (torch.stack(parts) for parts in zip(*rows, strict=True))
        return Batch(y, V.float(), logits, [x.float() for x in maps])

    def frames(self, indices: Sequence[int]) -> Iterator[Tensor]:
        """Yield the spectrum (F, T) of each of some pieces."""
        for i in indices:
            file, piece = self._pieces[i]
            with safe_open(file, "pt") as opened:
                yield opened.get_slice("V")[piece].float()


def pieces_of(y: np.ndarray, n_samples: int) -> list[np.ndarray]:
    """Cut samples (N,) into pieces of `n_samples`: see `Heard`."""
    found = [y[start : start + n_samples] for start in range(0, len(y), n_samples)]
    if len(found) > 1 and 2 * len(found[-1]) < n_samples:
        found.pop()
    return [np.pad(piece, (0, n_samples - len(piece))) for piece in found]


def _hear(network: AuditedNetwork, source: Any, n_samples: int, file: Path) -> int:
    """Write what the network hears in a recording; return the number of its pieces."""
    parts: list[list[Tensor]] = []
    for y in pieces_of(read_sound(source, network.analysis.sample_rate).samples, n_samples):
        if not np.any(y):
            continue
        with torch.inference_mode():
            _, V, _, features = network.analyze([y])
            logits, maps = network.run(features)
        half = [torch.as_tensor(host(x)[0]).clamp(-_LARGEST, _LARGEST).half() for x in (V, *maps.values())]
        parts.append([torch.from_numpy(y), half[0], logits[0].cpu(), *half[1:]])
    names = ["y", "V", "logits", *(f"map{i}" for i in range(len(network.layers)))]
    columns = zip(*parts, strict=True) if parts else ()
    weights = {name: torch.stack(column).contiguous() for name, column in zip(names, columns, strict=False)}
    write_whole(file, lambda p: p.write_bytes(save(weights, metadata={"pieces": str(len(parts))})))
    return len(parts)


def _count(file: Path) -> int | None:
    """Return the number of pieces that a file keeps; None where it is missing or damaged."""
    try:
        with safe_open(file, "pt") as opened:
            return int((opened.metadata() or {})["pieces"])
    except (OSError, SafetensorError, KeyError):
        return None


def _read(file: Path, piece: int) -> list[Tensor]:
    with safe_open(file, "pt") as opened:
        n_maps = len(opened.keys()) - 3
        names = ["y", "V", "logits", *(f"map{i}" for i in range(n_maps))]
        return [opened.get_slice(name)[piece] for name in names]
