"""Sound files that grow: whole at the end, or none."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2i_fast.archive.sounds import SoundWriter
from l2i_fast.audio import write_audio

from ..helpers import refused


@pytest.fixture
def small_files() -> Iterator[None]:
    """The operating system refuses files of more than 100 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("audio_format", ["flac", "wav"])
def test_a_file_that_cannot_grow_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator, audio_format: Any, full: bool
) -> None:
    file = tmp_path / f"a.{audio_format}"
    said = f"{file} cannot be written: the operating system has refused it"
    if full:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
        said = f"[Errno 28] No space left on device: '{file}'"
    y = rng.uniform(-0.1, 0.1, 200_000).astype(np.float32)
    writer = SoundWriter(file, 44100, audio_format)
    with refused(OSError, said):
        writer.write(y)
        writer.close()
    writer.abandon()
    assert not list(tmp_path.iterdir())
    with refused(OSError, said):
        write_audio(file, y, 44100, "PCM_24")
    assert not list(tmp_path.iterdir())
