"""The operations that `l2i bench` measures, and the sizes of their problems."""

from typing import Literal

Operation = Literal[
    "stft",
    "istft",
    "log_mel",
    "analyze",
    "soft_mask",
    "decode",
    "nmf",
    "precision",
    "activations",
    "stream",
    "race",
    "scaling",
]
Size = Literal["clip", "batch", "archive", "hour"]
