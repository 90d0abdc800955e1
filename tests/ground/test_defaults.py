"""Settings that a caller has chosen for NumPy and torch change no answer, and stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch

import l2i_fast as l2i
from l2i_fast.audio import as_mono_float32, scale_to_peak
from l2i_fast.defaults import default_settings
from l2i_fast.model import L2I
from l2i_fast.networks.classifier import Classifier

from ..conftest import make_model


@contextmanager
def changed(set_value: Callable[[Any], Any], value: Any, default: Any) -> Iterator[None]:
    set_value(value)
    try:
        yield
    finally:
        set_value(default)


def deterministic(on: bool) -> None:
    torch.use_deterministic_algorithms(on)


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "default dtype": lambda: changed(torch.set_default_dtype, torch.float64, torch.float32),
    "default device": lambda: changed(torch.set_default_device, "meta", None),
    "device of a context": lambda: torch.device("meta"),
    "errors of NumPy raise": lambda: np.errstate(all="raise"),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "deterministic algorithms": lambda: changed(deterministic, True, False),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True, check_nan=True),
}


def state() -> tuple[Any, ...]:
    """What a caller may have set."""
    return (
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        np.geterr(),
    )


def streamed(model: L2I, y: np.ndarray) -> list[np.ndarray]:
    with model.stream(mode="synchronous") as stream:
        audio = stream.push(y, last=True)
        assert stream.error is None
        assert stream.latest is not None
        return [audio, stream.latest.probabilities]


def interpreted(model: L2I, y: np.ndarray) -> list[np.ndarray]:
    stereo = np.stack([y, 1e-30 * y], axis=1)  # whose mean, and whose product with the scale, underflow
    results = list(model.interpret_batch([(y, 44100), (stereo, 44100)]))
    return [array for result in results for array in (result.audio, result.probabilities, result.activations)]


def on_device(y: np.ndarray, W: np.ndarray) -> list[np.ndarray]:
    streams = l2i.DeviceStreams(W, 2, device="cpu")
    streams.weights, streams.scale = np.full(4, 0.5), 2.0
    streams.reset([0])
    blocks = torch.from_numpy(np.tile(y[: 9 * 512].reshape(9, 1, 512), (1, 2, 1)))
    return [streams.push(block).numpy() for block in blocks]


def factorised(V: np.ndarray, W: np.ndarray) -> list[np.ndarray]:
    answers = [l2i.learn_dictionary(V, 3, max_iter=12), l2i.learn_dictionary_online([V], 3, n_updates=2)]
    for solver in ("mu", "newton"):
        answers.append(l2i.activations(V, W, "kullback-leibler", n_iter=4, solver=solver))
        nmf = l2i.NMF(3, solver=solver, random_state=0, max_iter=4, tol=0)
        answers += [nmf.fit_transform(V.T), nmf.transform(V.T), nmf.inverse_transform(nmf.transform(V.T))]
    return answers


@torch.inference_mode(False)  # the caller's part
def gradient(X: np.ndarray, W: np.ndarray, H: np.ndarray) -> list[np.ndarray]:
    weights, h = torch.from_numpy(np.ones(4, np.float32)), torch.from_numpy(H.copy()).requires_grad_()
    l2i.decode(torch.from_numpy(X), torch.from_numpy(W), h, weights).square().sum().backward()
    assert h.grad is not None
    return [h.grad.numpy()]


def dtypes_of_a_new_model() -> list[np.ndarray]:
    with torch.device("cpu"):
        made = make_model().interpreter, Classifier(3, width=0.0625)
    tensors = [x for module in made for x in module.state_dict().values()]
    return [np.zeros(0, str(x.dtype).removeprefix("torch.")) for x in tensors]


def on_tensors(y: np.ndarray, X: np.ndarray, V: np.ndarray, W: np.ndarray, H: np.ndarray) -> list[np.ndarray]:
    y_, X_, V_, W_, H_ = map(torch.from_numpy, (y, X, V, W, H))
    return [
        np.asarray(x)
        for x in (
            l2i.stft(y_, pad_mode="linear_ramp"),
            l2i.log_mel(y_),
            l2i.decode(X_, W_, H_, torch.from_numpy(np.ones(4, np.float32))),
            l2i.activations(V_, W_, n_iter=4),
            l2i.learn_dictionary(V_, 3, max_iter=12),
            l2i.NMF(3, random_state=0, max_iter=4, tol=0).fit_transform(V_),  # type: ignore[arg-type]
        )
    ]


@pytest.fixture(scope="module")
def answers() -> dict[str, Callable[[], list[np.ndarray]]]:
    """Everything that computes with NumPy or torch, on one input."""
    rng = np.random.default_rng(3)
    y = (rng.standard_normal(70001) * np.geomspace(1e-3, 1, 70001)).astype(np.float32)
    X = l2i.stft(y)
    V = np.log1p(np.abs(X))
    V[7], V[8, ::2] = 1e-38, 0
    W = rng.random((513, 4), np.float32)
    H = l2i.activations(V, W)
    model, streamable = make_model(), make_model(streamable=True)
    tiny = 1e-40 * y.astype(np.float64)
    return {
        "model": lambda: interpreted(model, y),
        "stream": lambda: streamed(model, y),
        "incremental stream": lambda: streamed(streamable, y),
        "dtypes of a new model": dtypes_of_a_new_model,
        "a shipped model": lambda: [l2i.load("esc10").interpret((y, 44100)).probabilities],
        "streams on a device": lambda: on_device(y, W),
        "factorisations": lambda: factorised(V, W),
        "gradient": lambda: gradient(X, W, H),
        "tensors": lambda: on_tensors(y, X, V, W, H),
        "tiny values": lambda: [
            l2i.stft(tiny),
            as_mono_float32(tiny),
            scale_to_peak(y * np.linspace(0, 1e-38, 70001))[0],
        ],
        "windows": lambda: [l2i.stft(y, window=("gaussian", 7.0)), l2i.stft(y, n_fft=1000, hop_length=250)],
        "recording": lambda: [l2i.log_mel(y, top_db=30.0), l2i.analyze(y, n_fft=1000).log_mel],
    }


@pytest.mark.parametrize("forced", ["", "torch"])
def test_settings_of_the_caller_change_no_answer(
    forced: str, answers: dict[str, Callable[[], list[np.ndarray]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if forced:
        monkeypatch.setenv("L2I_BACKEND", forced)
    names = [name for name in answers if not forced or name in ("model", "gradient", "tensors", "streams on a device")]
    expected = {name: answers[name]() for name in names}
    for setting, make in SETTINGS.items():
        with make():
            before = state()
            for name in names:
                got = answers[name]()
                assert state() == before, (setting, name)
                for a, b in zip(got, expected[name], strict=True):
                    assert a.dtype == b.dtype, (setting, name)
                    np.testing.assert_array_equal(a, b, err_msg=f"{setting}: {name}")


def test_settings_are_given_back_after_an_error() -> None:
    @default_settings()
    def fail() -> None:
        assert not torch.is_autocast_enabled("cpu")
        assert torch.empty(1).is_cpu
        assert np.float32(1e-30) * np.float32(1e-30) == 0
        raise KeyError

    with torch.autocast("cpu", torch.bfloat16), torch.device("meta"), np.errstate(all="raise"):
        before = state()
        with pytest.raises(KeyError):
            fail()
        assert state() == before
