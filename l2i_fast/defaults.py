"""The settings of NumPy and torch under which the package works, whatever its caller has chosen."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np


@contextmanager
def default_settings() -> Iterator[None]:
    """Hold the calling thread's settings of NumPy and torch at their defaults, and give the caller's back at the end.

    Floating-point errors of NumPy do not raise, torch casts nothing automatically, and tensors are made on the CPU
    unless a device is named. The default dtype of torch belongs to all threads: it stays, and the package names dtypes.
    """
    with np.errstate(all="warn", under="ignore"), ExitStack() as stack:
        if torch := sys.modules.get("torch"):
            for device in ("cpu", "cuda"):
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))
        yield
