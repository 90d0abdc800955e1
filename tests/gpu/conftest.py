"""Where the tests of the GPU's operations run: on a GPU, or interpreted on the CPU where there is none."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    """A GPU, or the CPU, on which Triton then interprets its kernels."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
