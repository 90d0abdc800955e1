"""Archives on a device give the rows and the sound that the CPU gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from l2i_fast.archive.tables import read_events

from ..conftest import make_model
from ..helpers import missing
from .support import noise, run


@pytest.mark.parametrize("served", ["torch", "triton"])
def test_a_backend_of_the_gpu_gives_the_same_rows(
    tmp_path: Path, device: torch.device, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := missing(served, device):
        pytest.skip(reason)
    model = make_model(updates=2).save(tmp_path / "model")
    noise(tmp_path / "a.wav", 2.2, seed=1)
    settings = {"confidence": 0.2, "sound": "all"}
    run(model, [tmp_path / "a.wav"], tmp_path / "near", **settings)
    monkeypatch.setenv("L2I_BACKEND", served)
    run(model, [tmp_path / "a.wav"], tmp_path / "far", **settings, device=str(device))
    near, far = (list(read_events(tmp_path / name)) for name in ("near", "far"))
    assert len(near) > 3
    for one, other in zip(near, far, strict=True):
        for name, value in one.items():
            wanted = pytest.approx(value, rel=1e-3, abs=1e-3) if isinstance(value, (float, list)) else value
            assert other[name] == wanted, name
    sounds = [np.concatenate([soundfile.read(f)[0] for f in sorted((tmp_path / name).rglob("*.flac"))])
              for name in ("near", "far")]  # fmt: skip
    np.testing.assert_allclose(*sounds, atol=1e-3)
