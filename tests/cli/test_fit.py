"""`l2i fit`, and the commands that take the network of a fitted model."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from .support import assert_fails, run

SCRIPT = """
import torch
from torch import nn
import l2i_fast as l2i
from l2i_fast.networks.inputs import MelSpectrogram

class Net(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2))
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.body(x).mean((2, 3)))

def make(seed=0):
    bands = MelSpectrogram(8000, 256, 80, n_mels=32)
    return l2i.wrap(Net(seed), ["one", "other"], front_end=bands, layers=["body"], window=0.5)

def changed():
    return make(1)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(SCRIPT)
    Path("sounds").mkdir()
    for i in range(7):
        rng = np.random.default_rng(i)
        soundfile.write(f"sounds/{i}.wav", rng.standard_normal(8000) * rng.uniform(0.01, 0.3), 8000)
    settings = {"seconds": 1.0, "steps": 1, "width": 0.05, "dictionary": {"n_components": 5, "max_iter": 5}}
    Path("small.json").write_text(json.dumps(settings))
    return tmp_path


def test_from_a_script_to_sound(place):
    arguments = "net.py:make", "--data", "sounds", "--output", "fitted", "--config", "small.json"
    done = run("fit", *arguments)
    assert done.exit_code == 0, done.output
    assert "recordings kept apart" in done.stdout
    assert "l2i interpret --model fitted --network net.py:make FILE..." in done.stdout
    assert "recordings 7/7" in done.stderr
    figures = json.loads(run("fit", *arguments, "--json").stdout)
    assert figures["recordings"] == 1
    given = "--model", "fitted", "--network", "net.py:make"
    done = run("interpret", *given, "sounds/0.wav", "--output", "out")
    assert done.exit_code == 0, done.output
    assert any(Path("out/0").glob("*.wav"))
    windows = "--window", "1", "--overlap", "0.25", "--confidence", "0.1"
    done = run("batch", "sounds", *given, "--output", "archive", "--jobs", "2", *windows)
    assert done.exit_code == 0, done.output
    assert list(Path("archive/sound").rglob("*.flac"))
    assert run("batch", "--summary", "archive", "--network", "net.py:make").exit_code == 0
    assert "is not the run" not in Path("archive/summary/index.html").read_text()
    stream = "--output", "live.wav", "--fast"
    assert run("stream", "sounds/0.wav", *given, *stream).exit_code == 0
    assert soundfile.info("live.wav").samplerate == 8000


def test_wrong_networks(place):
    arguments = "--data", "sounds", "--output", "fitted", "--config", "small.json"
    assert_fails(run("fit", "net.py:nothing", *arguments), 1, "net.py has no function nothing")
    assert_fails(run("fit", "none.py:make", *arguments), 1, "there is no file none.py")
    assert_fails(run("fit", "resnet", *arguments), 1, "must be FILE.py:FUNCTION", "yamnet")
    assert_fails(run("fit", "net.py:make", "--data", "nowhere", "--output", "x"), 1, "nowhere")
    assert_fails(run("fit", "net.py:make", *arguments[:4], "--config", "net.py"), 1, "net.py cannot be read as JSON")
    assert not Path("fitted").exists()
    assert run("fit", "net.py:make", *arguments).exit_code == 0
    for line in ("interpret sounds/0.wav", "batch sounds -o a", "stream sounds/0.wav --fast --output live.wav"):
        command = line.split()
        assert_fails(run(*command, "--model", "fitted"), 1, "must be given, as by 'net.py:make'")
        assert_fails(run(*command, "--model", "fitted", "--network", "net.py:changed"), 1, "network has changed")
