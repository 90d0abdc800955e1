"""Make the page docs/listening of synthesised sounds: python docs/listening.py."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import l2i_fast as l2i
from l2i_fast.data.corruptions import add_noise, mix_at_level
from l2i_fast.data.scene import SOUNDS, Audio, demo_scene, dog, rain
from l2i_fast.explainers import IBA, IntegratedGradients, ListenToInterpret
from l2i_fast.page import PageSample, Section, write_page

RATE, SECONDS = 44100, 3.0


def main() -> None:
    """Explain a dog alone, in rain and in noise by three methods."""
    model = l2i.load("esc10")
    bottleneck = IBA(model.network)
    with TemporaryDirectory() as folder:
        scenes = [(demo_scene(kind, sr=RATE), RATE) for kind in SOUNDS]
        bottleneck.fit(scenes, Path(folder), lambda *progress: None)
    methods = (ListenToInterpret(model), bottleneck, IntegratedGradients(model.network))
    rng = np.random.default_rng(0)
    bark, drops = (make(RATE, SECONDS, rng) for make in (dog, rain))
    in_rain, in_noise = mix_at_level(bark, drops, -3.0), add_noise(bark, 0.0, rng)

    def section(title: str, text: str, name: str, y: Audio) -> Section:
        results = [method.explain([(y, RATE)])[0] for method in methods]
        parts = {} if y is bark else {"Target": bark, "Corrupting": y - bark}
        return Section(title, text, [PageSample(name, name, ("dog",), results, parts)])

    sections = [
        section("Clean", "A synthesised dog.", "Dog", bark),
        section("Mixture", "With rain at -3 dB.", "Dog and rain", in_rain),
        section("Noise", "In white noise at 0 dB SNR.", "Dog in noise", in_noise),
    ]
    write_page(sections, Path(__file__).with_suffix(""), "Synthesised sounds, explained")


if __name__ == "__main__":
    main()
