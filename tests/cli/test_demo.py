"""`l2i demo`: it writes and prints an interpretation."""

import json
from pathlib import Path

import soundfile

from l2i_fast import model

from .support import files_in, run


def test_demo_ends_with_sound_and_picture(place, tiny_model, monkeypatch):
    monkeypatch.setattr(model, "load", lambda name, *_: {"esc10": tiny_model}[name])
    done = run("demo", "--output", "somewhere")
    assert done.exit_code == 0, done.output
    assert "heard" in done.stdout
    assert "scene.wav" in done.stdout
    found = json.loads(Path("somewhere/result.json").read_text())
    written = {"scene.wav", "result.json", found["input"], found["arrays"]}
    written |= {found["explanations"][0][key] for key in ("audio", "picture")}
    assert set(files_in("somewhere")) == written
    assert soundfile.info("somewhere/scene.wav").samplerate == tiny_model.sample_rate
