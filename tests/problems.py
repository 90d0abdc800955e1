"""What several tests of the GPU's operations measure with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def relative(x: Any, expected: Any) -> float:
    """L2 error relative to what is expected; NaN where there is one in either."""
    a, b = (np.asarray(y.detach().cpu() if isinstance(y, torch.Tensor) else y) for y in (x, expected))
    wide = np.complex128 if np.iscomplexobj(b) else np.float64
    a, b = a.astype(wide), b.astype(wide)
    assert a.shape == b.shape
    size = float(np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / (size or 1.0)
