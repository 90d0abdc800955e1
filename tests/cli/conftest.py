"""A model folder and a working folder for tests of the command line."""

import pytest

from .support import make_clip


@pytest.fixture(scope="session")
def tiny_folder(tiny_model, tmp_path_factory):
    return str(tiny_model.save(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A temporary working folder that contains a clip."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("L2I_DATA", raising=False)
    make_clip("clip.wav")
    return tmp_path
