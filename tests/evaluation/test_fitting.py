"""Networks are explained after the fact: what is fitted names the sound that the network listens to, and says so."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

import l2i_fast as l2i
from l2i_fast.evaluation.fitting import Trust, fit, trust_of
from l2i_fast.model import L2I
from l2i_fast.model.windowed import WindowedNetwork
from l2i_fast.networks.inputs import MelSpectrogram
from l2i_fast.settings import from_dict
from l2i_fast.training.config import DictionaryConfig
from l2i_fast.training.heard import Heard, pieces_of
from l2i_fast.training.post_hoc import FitConfig

from ..helpers import refused

RATE = 8000
CONFIG = FitConfig(
    seconds=1.0, steps=150, batch_size=8, width=0.1, learning_rate=3e-3,
    dictionary=DictionaryConfig(n_components=10, max_iter=40),
)  # fmt: skip


class Bands(nn.Module):
    """Hears whether low or high bands are louder."""

    def __init__(self) -> None:
        super().__init__()
        self.halves = nn.AvgPool2d((4, 16))

    def forward(self, x: Tensor) -> Tensor:
        halves: Tensor = self.halves(x)
        return 3 * halves.mean(2)[:, 0]


def network(**changed: Any) -> WindowedNetwork:
    bands = MelSpectrogram(RATE, 256, 80, n_mels=32, f_max=4000, amin=1e-3)
    settings: dict[str, Any] = {"layers": {"halves": "b c t f"}, "window": 0.5, "multilabel": False}
    return l2i.wrap(Bands(), ["low", "high"], front_end=bands, **settings | changed)


TONES = 500, 2500


def sound(i: int, seconds: float = 1.0) -> np.ndarray:
    """A low and a high tone that come and go, of which one, high for odd `i`, is louder by at least 6 dB, and noise."""
    rng = np.random.default_rng(i)
    t = np.arange(round(RATE * seconds)) / RATE
    levels = -6 - rng.uniform([0, 0], [6, 24])
    levels[1] = min(levels[1], levels[0] - 6)
    y = 0.003 * rng.standard_normal(len(t))
    for hertz, level in zip(TONES, levels[::-1] if i % 2 else levels, strict=True):
        gate = np.repeat(rng.random(10) < 0.7, -(-len(t) // 10))[: len(t)]
        gate[: len(t) // 10] = True
        y += 10 ** (level / 20) * np.sin(2 * np.pi * hertz * t) * gate
    return y.astype(np.float32)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recordings")
    for i in range(100):
        soundfile.write(folder / f"{i:02d}.wav", sound(i), RATE)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def fitted(recordings: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[L2I, Path]:
    folder = tmp_path_factory.mktemp("fitted") / "model"
    return fit(network(), recordings, folder, CONFIG), folder


def power(y: np.ndarray, hertz: float) -> float:
    t = np.arange(len(y)) / RATE
    return float(np.abs(np.mean(y * np.exp(-2j * np.pi * hertz * t))) ** 2)


def test_the_tone_that_the_network_hears_is_kept(fitted: tuple[L2I, Path]) -> None:
    model, _ = fitted
    trust = trust_of(model)
    assert trust.recordings == 15
    assert trust.figures["fidelity_top1"] > 0.7
    assert trust.figures["missed"] < 0.2
    assert trust.figures["FF"] > trust.controls["equal-energy"]["FF"] + 0.1
    gains = []
    for i in range(200, 220):
        y = sound(i)
        result = model.interpret((y, RATE))
        kept = [power(result.audio, hertz) / power(y, hertz) for hertz in TONES]
        heard = ["low", "high"].index(result.prediction[0])
        gains.append(kept[heard] / kept[1 - heard])
    assert np.median(gains) > 10
    assert np.mean(np.greater(gains, 1)) > 0.8


def test_a_fitted_model_is_saved_with_its_trust(fitted: tuple[L2I, Path]) -> None:
    model, folder = fitted
    again = L2I.load(folder, network())
    y = sound(7)
    np.testing.assert_array_equal(again.interpret((y, RATE)).audio, model.interpret((y, RATE)).audio)
    assert trust_of(again) == trust_of(model)
    saved = json.loads((folder / "trust.json").read_text())
    assert saved["figures"] == trust_of(model).figures
    assert saved["words"] == trust_of(model).sentences()
    with refused(ValueError, "model 'esc10' has no record of its trust, which fit makes"):
        trust_of(L2I.load("esc10"))


def test_an_interrupted_fit_gives_the_same_model(
    recordings: list[Path], fitted: tuple[L2I, Path], tmp_path: Path
) -> None:
    def stop_at(stage: str, step: int) -> Any:
        def report(now: str, done: int, total: int, text: str) -> None:
            if (now, done) == (stage, step):
                raise KeyboardInterrupt

        return report

    heard = 0
    plain = network()

    def counted(y: Tensor) -> Any:
        nonlocal heard
        heard += len(y)
        return MelSpectrogram(RATE, 256, 80, n_mels=32, f_max=4000, amin=1e-3)(y)

    plain.front_end = counted
    for stage, step in (("recordings", 20), ("dictionary", 30), ("interpreter", 1)):
        with pytest.raises(KeyboardInterrupt):
            fit(plain, recordings, tmp_path / "model", CONFIG, stop_at(stage, step))
        if stage == "dictionary":
            assert heard == 2 * 100 + 2  # windows, none twice, and one by which each call knows the network
    model = fit(plain, recordings, tmp_path / "model", CONFIG)
    for name, x in fitted[0].interpreter.state_dict().items():
        assert torch.equal(model.interpreter.state_dict()[name], x), name
    with refused(
        ValueError, f"{tmp_path}/model/training/heard is of another network, other recordings or other pieces: ..."
    ):
        fit(plain, recordings[1:], tmp_path / "model", CONFIG)
    with refused(ValueError, "...is of another network, other recordings or other pieces: ..."):
        fit(network(hop=0.25), recordings, tmp_path / "model", CONFIG)
    with refused(ValueError, "...was made with other settings or clips..."):
        fit(plain, recordings, tmp_path / "model", dataclasses.replace(CONFIG, seed=1))


def test_broken_and_silent_recordings_are_left_out(recordings: list[Path], tmp_path: Path) -> None:
    broken, silent = tmp_path / "broken.wav", tmp_path / "silent.wav"
    broken.write_bytes(b"RIFF")
    soundfile.write(silent, np.zeros(RATE), RATE)
    config = dataclasses.replace(CONFIG, steps=1)
    sources = [broken, *recordings[:8], silent, tmp_path / "none.wav"]
    with pytest.warns(RuntimeWarning, match="2 of 11 recordings are left out: .*broken.wav"):
        model = fit(network(), sources, tmp_path / "model", config)
    assert set(model.training["problems"]) == {str(broken), str(tmp_path / "none.wav")}
    assert model.training["recordings"] == 9
    with refused(ValueError, "recordings hold nothing to learn from: ..."):
        fit(network(), [broken], tmp_path / "other", config)
    with refused(ValueError, "recordings hold nothing to learn from: they are silent"):
        fit(network(), [silent], tmp_path / "another", config)
    with refused(ValueError, "recordings hold nothing to learn from: there are none"):
        fit(network(), [], tmp_path / "empty", config)
    short = [(sound(0, 0.1), RATE)]
    with refused(ValueError, "recordings have ... frames that are not silent, but 10 components need as many"):
        fit(network(), short, tmp_path / "short", dataclasses.replace(config, seconds=0.1))


def test_pieces(rng: np.random.Generator) -> None:
    y = rng.standard_normal(25)
    assert [len(piece) for piece in pieces_of(y, 10)] == [10, 10, 10]
    np.testing.assert_array_equal(np.concatenate(pieces_of(y, 10))[:25], y)
    assert len(pieces_of(y[:24], 10)) == 2  # the rest is less than half a piece
    assert len(pieces_of(y[:3], 10)) == 1
    assert len(pieces_of(y[:0], 10)) == 0


def test_what_a_network_hears_is_kept(tmp_path: Path) -> None:
    net = network()
    y = sound(3, 2.2)
    heard = Heard(net, [(y, RATE), (sound(4), RATE)], RATE, tmp_path, "key", lambda *_: None)
    assert len(heard) == 3
    assert heard.recordings == [0, 0, 1]
    batch = heard.batch([2, 0])
    spectra = net.analyze([sound(4), y[:RATE]])
    answers = net.run(spectra.features)
    np.testing.assert_allclose(batch.V, spectra.V, atol=2e-3)
    np.testing.assert_allclose(batch.logits, answers.logits, atol=1e-6)
    np.testing.assert_allclose(batch.maps[0], answers.maps["halves"], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(next(iter(heard.frames([1]))), net.analyze([y[RATE : 2 * RATE]]).V[0], atol=2e-3)
    next(tmp_path.glob("000001*")).write_bytes(b"no")  # it is heard again
    again = Heard(net, [(y, RATE), (sound(4), RATE)], RATE, tmp_path, "key", lambda *_: None)
    assert torch.equal(again.batch([2]).V, batch.V[:1])


def test_words() -> None:
    figures = {
        "fidelity_top1": 0.95, "fidelity_top3": 1.0, "missed": 0.1, "AI": 60.0, "AD": 2.0, "AG": 20.0, "FF": 0.6,
        "Fid-In": 0.95, "kept": 0.5, "FF_error": 0.02,
    }  # fmt: skip
    controls = {"equal-energy": {**figures, "FF": 0.2, "AI": 30.0}, "constant": figures}
    good = Trust(100, figures, controls)
    assert good.faults() == []
    assert str(good).endswith("The interpretations can be trusted.")
    for changed, fault in (
        ({"fidelity_top1": 0.6}, "often decides otherwise"),
        ({"FF": 0.22}, "Random components cost the network as much"),
        ({"Fid-In": 0.5}, "often something else to the network"),
        ({"missed": 0.5}, "miss 50 % of the energy"),
    ):
        (found,) = Trust(100, figures | changed, controls).faults()
        assert fault in found
        assert "can be trusted" not in str(Trust(100, figures | changed, controls))
    assert "3 recordings are few" in str(Trust(3, figures, controls))
    assert "nothing is known" in str(Trust(0, {}, {}))


def test_wrong_arguments(tmp_path: Path) -> None:
    with refused(TypeError, "network is Bands(...), but must be wrapped first: l2i_fast.wrap(network, classes, ...)"):
        fit(Bands(), [], tmp_path)  # type: ignore[arg-type]
    with refused(TypeError, "recordings is 'sounds', but must be a list of recordings"):
        fit(network(), "sounds", tmp_path)
    with refused(TypeError, "recordings[0] is array(...), but must be a path or (samples, sample_rate)"):
        fit(network(), [np.zeros(9)], tmp_path)
    with refused(TypeError, "config is {'steps': 3}, but must be a FitConfig"):
        fit(network(), [], tmp_path, {"steps": 3})  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    with refused(ValueError, f"folder is '{tmp_path}/file', but that is a file"):
        fit(network(), [], tmp_path / "file")
    with refused(ValueError, "seconds is 0.05, but must be at least 0.1"):
        FitConfig(seconds=0.05)
    with refused(ValueError, "dictionary has noise or mixing, but must have neither..."):
        FitConfig(dictionary=DictionaryConfig(noise=0.5))
    with refused(ValueError, "settings has no setting 'epochs'; it has ..."):
        from_dict(FitConfig, {"epochs": 3}, "settings")
