"""Reader for ESC-50 and for folders in its layout, such as ESC-10 (Piczak, ACM Multimedia 2015)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from l2i_fast.data.dataset import AUDIO_ENDINGS, Clip, Dataset, as_integer, read_table
from l2i_fast.files import as_path

TABLE = Path("meta", "esc50.csv")


def load_esc50(root: str | os.PathLike[str], classes: Iterable[str] | None = None, esc10_only: bool = False) -> Dataset:
    """Read ESC-50's layout: meta/esc50.csv and the recordings in audio/, 5 s each.

    Parameters
    ----------
    root : path-like
        The folder that holds meta/ and audio/.
    classes : names, optional
        Keep these classes only.
    esc10_only : bool
        Keep the ten classes of ESC-10 only, by the table's column esc10.

    Returns
    -------
    dataset : Dataset
        One label for each clip; the classes are in the order of ESC-50's targets. The table may name .wav where
        the folder holds .ogg, .flac or .mp3, and vice versa.

    Raises
    ------
    FileNotFoundError
        If the table or a recording is missing.
    ValueError
        For a broken table, naming file and line.
    """
    root = as_path("root", root)
    table = root / TABLE
    if not table.is_file():
        raise FileNotFoundError(f"{table} does not exist")
    folder = root / "audio"
    # One listing instead of thousands of look-ups.
    present = {p.name: p for p in sorted(folder.iterdir())} if folder.is_dir() else {}
    columns = ["filename", "fold", "target", "category"] + ["esc10"] * esc10_only
    categories: dict[int, str] = {}
    seen: set[str] = set()
    rows: list[tuple[str, Path, int, int]] = []
    for where, (name, fold, target, category, *esc10) in read_table(table, columns):
        if name in seen:
            raise ValueError(f"{where}: {name} is listed twice")
        seen.add(name)
        number = as_integer(where, "target", target)
        if not category or categories.setdefault(number, category) != category:
            raise ValueError(f"{where}: target {number} is {categories.get(number, '')!r} and {category!r}")
        if esc10 and esc10[0] not in ("True", "False"):
            raise ValueError(f"{where}: esc10 is {esc10[0]!r}, but must be True or False")
        if esc10 != ["False"]:
            rows.append((where, _find(where, folder, present, name), as_integer(where, "fold", fold), number))
    if len(set(categories.values())) != len(categories):
        raise ValueError(f"{table} gives two targets the same category: {categories}")
    if not rows:
        raise ValueError(f"{table} lists no recordings")
    targets = sorted({target for *_, target in rows})
    clips = tuple(Clip(path, (targets.index(t),), fold, path.stem) for _, path, fold, t in rows)
    name = "ESC-10" if len(targets) == 10 else "ESC-50"
    dataset = Dataset(name, tuple(categories[t] for t in targets), clips, multilabel=False, duration=5.0)
    return dataset if classes is None else dataset.select(classes=classes)


def _find(where: str, folder: Path, present: dict[str, Path], name: str) -> Path:
    stem = Path(name).stem
    for candidate in (name, *(stem + ending for ending in AUDIO_ENDINGS)):
        if candidate in present:
            return present[candidate]
    raise FileNotFoundError(f"{where}: {folder / name} does not exist, nor with another ending")
