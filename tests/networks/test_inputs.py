"""Front ends of foreign networks: the features are those of the libraries that such networks were trained with."""

from __future__ import annotations

from typing import Any

import librosa
import numpy as np
import pytest
import torch

from l2i_fast.networks.inputs import MFCC, Extractor, MelSpectrogram, Waveform

from ..helpers import refused, relative


@pytest.mark.parametrize("htk", [False, True])
@pytest.mark.parametrize("norm", ["slaney", None])
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
def test_bands_are_those_of_librosa(rng: np.random.Generator, htk: bool, norm: Any, power: Any, pad_mode: Any) -> None:
    y = rng.standard_normal((2, int(rng.integers(3000, 9000)))).astype(np.float32) / 9
    settings = {"sr": 16000, "n_fft": 512, "hop_length": 160, "win_length": 400}
    A = librosa.feature.melspectrogram(
        y=y, **settings, n_mels=40, htk=htk, norm=norm, power=power, pad_mode=pad_mode, fmin=50, fmax=7000
    )
    bands = MelSpectrogram(
        16000, 512, 160, 400, 40, 50, 7000, htk, norm, power, "linear", pad_mode=pad_mode, layout="b f t"
    )
    assert relative(bands(torch.from_numpy(y)), A) < 1e-5


def test_logarithms(rng: np.random.Generator) -> None:
    y = torch.from_numpy(rng.standard_normal((1, 5000)).astype(np.float32))
    common = {"sample_rate": 22050, "n_fft": 1024, "hop_length": 256, "n_mels": 32}
    A = MelSpectrogram(**common, scale="linear")(y).numpy()
    for scale, expected in (
        ("ln", np.log(np.maximum(A, 0.5) + 0.01)),
        ("log10", np.log10(np.maximum(A, 0.5) + 0.01)),
        ("db", librosa.power_to_db(np.maximum(A, 0.5) + 0.01, top_db=None)),
    ):
        found = MelSpectrogram(**common, scale=scale, offset=0.01, amin=0.5, mean=1.5, std=3.0)(y)
        assert relative(found, (expected - 1.5) / 3) < 1e-5
    loud = MelSpectrogram(**common, scale="db", power=1)(y)
    magnitudes = MelSpectrogram(**common, scale="linear", power=1)(y)
    assert relative(loud, librosa.amplitude_to_db(magnitudes.numpy(), top_db=None)) < 1e-5


def test_layouts_and_gradients() -> None:
    y = torch.randn(3, 4000, requires_grad=True)
    sizes = {"t": 26, "f": 16, "b": 3, "1": 1}
    for layout in ("b 1 t f", "b 1 f t", "b t f", "b f t"):
        bands = MelSpectrogram(8000, 256, 160, n_mels=16, layout=layout)
        assert bands(y).shape == tuple(sizes[axis] for axis in layout.split())
        coefficients = MFCC(7, layout, sample_rate=8000, n_fft=256, hop_length=160, n_mels=16)
        assert coefficients(y).shape == tuple({**sizes, "f": 7}[axis] for axis in layout.split())
        coefficients(y).square().sum().backward()
    assert y.grad is not None
    assert bool(y.grad.isfinite().all())
    assert bool(y.grad.abs().sum() > 0)


def test_cepstral_coefficients_are_those_of_librosa(rng: np.random.Generator) -> None:
    y = rng.standard_normal(9000).astype(np.float32)
    expected = librosa.feature.mfcc(
        S=librosa.power_to_db(
            librosa.feature.melspectrogram(y=y, sr=22050, n_fft=512, hop_length=256, n_mels=40), top_db=None
        ),
        n_mfcc=13,
    )
    mfcc = MFCC(13, "b f t", sample_rate=22050, n_fft=512, hop_length=256, n_mels=40)
    assert mfcc.sample_rate == 22050
    assert relative(mfcc(torch.from_numpy(y)[None])[0], expected) < 1e-4


def test_samples_and_extractors() -> None:
    class Doubled:
        sampling_rate = 16000

        def __call__(self, y: list[np.ndarray], **settings: Any) -> dict[str, Any]:
            assert settings == {"sampling_rate": 16000, "return_tensors": "pt", "padding": True}
            return {"input_values": torch.from_numpy(np.stack(y)) * 2, "names": ["a"]}

    y = torch.randn(2, 50)
    assert torch.equal(Waveform(8000)(y), y)
    assert Waveform(8000, channels=True)(y).shape == (2, 1, 50)
    extractor = Extractor(Doubled(), padding=True)
    found = extractor(y)
    assert list(found) == ["input_values"]
    assert torch.equal(found["input_values"], 2 * y)
    assert extractor.sample_rate == 16000


def test_wrong_settings() -> None:
    with refused(TypeError, "extractor is 3, but a feature extractor of transformers is needed"):
        Extractor(3)
    with refused(ValueError, "layout is 't f', but must be one of b 1 t f, b 1 f t, b t f, b f t"):
        MelSpectrogram(8000, 256, 128, layout="t f")
    with refused(ValueError, "scale is 'log', but must be one of ln, log10, db, linear"):
        MelSpectrogram(8000, 256, 128, scale="log")  # type: ignore[arg-type]
    with refused(ValueError, "win_length is 512, but must be at most 256"):
        MelSpectrogram(8000, 256, 128, 512)
    with refused(ValueError, "n_mfcc is 80, but must be at most 40"):
        MFCC(80, sample_rate=8000, n_fft=256, hop_length=128, n_mels=40)
