"""Hear why an audio network decided what it decided."""

from l2i_fast.soft_mask import decode, soft_mask
from l2i_fast.stft import istft, log_mel, stft

__version__ = "0.1.0"
__all__ = ["decode", "istft", "log_mel", "soft_mask", "stft"]
