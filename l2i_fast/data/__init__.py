"""Data sets: ESC-50 and SONYC-UST from their folders, as clips with labels."""

from __future__ import annotations

import os

from l2i_fast.data import esc50, sonyc
from l2i_fast.data.dataset import Clip, Dataset
from l2i_fast.data.esc50 import load_esc50
from l2i_fast.data.sonyc import load_sonyc
from l2i_fast.files import as_path

__all__ = ["Clip", "Dataset", "load_dataset", "load_esc50", "load_sonyc"]


def load_dataset(path: str | os.PathLike[str] | None = None) -> Dataset:
    """Read a data set, recognised by its layout: ESC-50's (meta/esc50.csv) or SONYC-UST's (annotations.csv).

    Parameters
    ----------
    path : path-like, optional
        The data set's folder; by default the one that the environment variable L2I_DATA names.

    Raises
    ------
    FileNotFoundError
        If the folder or a recording does not exist.
    ValueError
        If no folder is named, its layout is neither of the two, or its table is broken.
    """
    chosen = path if path is not None else os.environ.get("L2I_DATA")
    if chosen is None or chosen == "":
        raise ValueError(
            "path is empty, but the folder of a data set is needed, here or in the environment variable L2I_DATA"
        )
    root = as_path("path", chosen)
    if not root.is_dir():
        raise FileNotFoundError(f"the folder {root} does not exist")
    if (root / esc50.TABLE).is_file():
        return load_esc50(root)
    if (root / sonyc.TABLE).is_file():
        return load_sonyc(root)
    raise ValueError(f"{root} holds no data set: it has neither {esc50.TABLE} (ESC-50) nor {sonyc.TABLE} (SONYC-UST)")
