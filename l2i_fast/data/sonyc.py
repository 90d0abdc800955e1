"""Reader for SONYC-UST (Cartwright et al., DCASE 2019 and 2020): urban sound with several labels for each clip."""

from __future__ import annotations

import os
from pathlib import Path

from l2i_fast.data.dataset import AUDIO_ENDINGS, Clip, Dataset, as_integer, read_table
from l2i_fast.files import as_path

TABLE = Path("annotations.csv")
CLASSES = (
    "engine",
    "machinery-impact",
    "non-machinery-impact",
    "powered-saw",
    "alert-signal",
    "music",
    "human-voice",
    "dog",
)
SPLITS = ("train", "validate", "test")
VERIFIED = 0  # annotator_id of the labels that SONYC's own team agreed on


def load_sonyc(root: str | os.PathLike[str]) -> Dataset:
    """Read SONYC-UST's layout: annotations.csv and 10 s recordings in audio/ or in several folders audio*/.

    Every annotator has a row for a recording, with 1 (present), 0 (absent) or -1 (not labelled) for each of
    the eight coarse classes. In the splits train and validate a class counts as present if any annotator
    marks it; in the split test only the verified row (annotator_id 0) counts, and recordings without one are
    left out.

    Parameters
    ----------
    root : path-like
        The folder that holds annotations.csv.

    Returns
    -------
    dataset : Dataset
        Any number of labels for each clip, including none; `Clip.split` is train, validate or test.

    Raises
    ------
    FileNotFoundError
        If the table or recordings are missing.
    ValueError
        For a broken table, naming file and line.
    """
    root = as_path("root", root)
    table = root / TABLE
    if not table.is_file():
        raise FileNotFoundError(f"{table} does not exist")
    presence = [f"{i}_{name}_presence" for i, name in enumerate(CLASSES, 1)]
    splits: dict[str, str] = {}
    labels: dict[str, set[int]] = {}
    verified: set[str] = set()
    for where, (split, name, annotator, *marks) in read_table(
        table, ["split", "audio_filename", "annotator_id", *presence]
    ):
        if split not in SPLITS or splits.setdefault(name, split) != split:
            expected = splits.get(name) or "one of " + ", ".join(SPLITS)
            raise ValueError(f"{where}: the split of {name} is {split!r}, but must be {expected}")
        for column, mark in zip(presence, marks, strict=True):
            if mark not in ("1", "0", "-1"):
                raise ValueError(f"{where}: {column} is {mark!r}, but must be 1, 0 or -1")
        present = {i for i, mark in enumerate(marks) if mark == "1"}
        by_team = as_integer(where, "annotator_id", annotator) == VERIFIED
        if by_team and name in verified:
            raise ValueError(f"{where}: {name} has two verified rows (annotator_id {VERIFIED})")
        if by_team:
            verified.add(name)
        if by_team or split != "test":
            labels.setdefault(name, set()).update(present)
    if not labels:
        raise ValueError(f"{table} lists no recordings")
    files = {
        path.name: path
        for folder in sorted(root.glob("audio*"))
        if folder.is_dir()
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in AUDIO_ENDINGS
    }
    missing = [name for name in labels if name not in files]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(labels)} recordings of {table} are not in {root / 'audio*'}, "
            f"the first: {missing[0]}"
        )
    clips = tuple(
        Clip(files[name], tuple(sorted(found)), None, Path(name).stem, splits[name])
        for name, found in sorted(labels.items())
    )
    return Dataset("SONYC-UST", CLASSES, clips, multilabel=True, duration=10.0)
