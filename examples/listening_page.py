"""Make a page to listen to from synthesised sounds: python listening_page.py FOLDER."""

import sys
import tempfile
from pathlib import Path

import numpy as np

import l2i_fast as l2i
from l2i_fast.data.corruptions import add_noise, mix_at_level
from l2i_fast.data.scene import SOUNDS
from l2i_fast.explainers import EXPLAINERS, IBA
from l2i_fast.page import PageSample, Section, write_page

RATE, SECONDS = 44100, 3.0


def sound(kind, take):
    """Synthesise a sound of a class that the model esc10 knows."""
    return SOUNDS[kind](RATE, SECONDS, np.random.default_rng(take))


if len(sys.argv) < 2:
    sys.exit(__doc__)
model = l2i.load("esc10")
with tempfile.TemporaryDirectory() as learned:
    others = [(sound(kind, take), RATE) for kind in SOUNDS for take in (8, 9)]
    iba = IBA(model.network).fit(others, Path(learned), lambda *progress: None)
methods = [EXPLAINERS["l2i"].for_model(model), iba, EXPLAINERS["integrated-gradients"].for_model(model)]


def sample(title, target, audio):
    """Explain what is heard as a dog by every method; the parts of `audio` are known."""
    results = [method.explain([(audio, RATE)])[0] for method in methods]
    parts = {} if audio is target else {"Target": target, "Corrupting": audio - target}
    return PageSample(title, title, ("dog",), results, parts)


dog = sound("dog", 0)
in_noise = add_noise(dog, 0.0, np.random.default_rng(0))
sections = [
    Section("Clean", "A synthesised dog.", [sample("Dog", dog, dog)]),
    Section("Mixture", "With rain at -3 dB.", [sample("Dog and rain", dog, mix_at_level(dog, sound("rain", 0), -3.0))]),
    Section("Noise", "In white noise at 0 dB SNR.", [sample("Dog in noise", dog, in_noise)]),
]
print(write_page(sections, sys.argv[1], title="Synthesised sounds, explained"))
