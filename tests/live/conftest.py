"""A working folder, a sound card and a model for tests of live sound."""

import sys

import pytest

from . import stand_ins


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def card(monkeypatch):
    """Install a fake sound card."""

    def install(**properties):
        card = stand_ins.FakeSoundDevice(**properties)
        monkeypatch.setitem(sys.modules, "sounddevice", card)
        return card

    return install


@pytest.fixture
def fake_model(monkeypatch):
    monkeypatch.setattr("l2i_fast.model.load", lambda *_: stand_ins.FakeModel())
