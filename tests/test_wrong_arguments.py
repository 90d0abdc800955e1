"""Wrong values for each argument of the public functions: a sensible answer, or an error of one sentence.

The table gives a right call for each function; every argument in turn is replaced by values of the wrong type, out of
range or not finite. What those mean is not stated here, only that nobody meets an error from deep inside: the signature
of a native function, an exception of another library, or one of another type.
"""

from __future__ import annotations

import inspect
import math
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import l2i_fast as l2i
from l2i_fast.data import Clip, Dataset
from l2i_fast.data.corruptions import add_noise, mix_at_level
from l2i_fast.data.scene import demo_scene
from l2i_fast.evaluation import duplicate_components
from l2i_fast.model import L2I, LogMel, TorchNetwork
from l2i_fast.networks.classifier import Classifier
from l2i_fast.networks.interpreter import Interpreter
from l2i_fast.settings import Analysis, Selection
from l2i_fast.training.config import ClassifierConfig, DictionaryConfig, InterpreterConfig, TrainingConfig

WRONG: list[Any] = [
    None, math.nan, math.inf, -math.inf, -1, 0, 1.5, True, "a", b"a", "", [], {}, (), ("a", 1), object(), 2**31,
    2**63, 10**400, np.float64("nan"), np.array(3), np.array([1, 2]), np.zeros((2, 2)), torch.tensor(3), torch.ones(2),
    1j,
]  # fmt: skip

#: Part of each error of ours.
OURS = re.compile(", but |has no setting|there is no file")

RNG = np.random.default_rng(0)
Y = RNG.standard_normal(400).astype(np.float32)
X = l2i.stft(Y, 64, 32)
V = np.abs(X)
W, H = (RNG.random(shape, dtype=np.float32) for shape in ((33, 3), (3, X.shape[1])))
ONES = np.ones(3, np.float32)
SMALL: dict[str, Any] = {"n_fft": 64, "hop_length": 32}
MASK: dict[str, Any] = {"X": X, "W": W, "H": H, "weights": ONES}
CLIPS = tuple(Clip(Path(name), (i,), i, name) for i, name in enumerate("ab"))


class Setter:
    """A property as a function of its value."""

    def __init__(self, owner: Callable[[], Any], name: str) -> None:
        self.owner, self.__name__ = owner(), name

    def __call__(self, value: Any) -> None:
        setattr(self.owner, self.__name__, value)


def decoder() -> l2i.StreamDecoder:
    return l2i.StreamDecoder(W, 32)


def streams() -> l2i.DeviceStreams:
    return l2i.DeviceStreams(W, 2, 32, device="cpu")


def keep_threads(n: Any) -> None:
    before = l2i.get_num_threads()
    l2i.set_num_threads(n)
    l2i.set_num_threads(before)


#: Functions, a right call of each, and arguments that this test leaves alone: those of which a large value takes as
#: much memory, and those that may hold anything.
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "stft": (l2i.stft, {"y": Y, **SMALL}, ""),
    "istft": (l2i.istft, {"X": X, "hop_length": 32}, "hop_length length"),
    "log_mel": (l2i.log_mel, {"X_or_y": Y, "sr": 8000, "n_mels": 6, **SMALL}, ""),
    "analyze": (l2i.analyze, {"y": Y, "sr": 8000, "n_mels": 6, **SMALL}, ""),
    "soft_mask": (l2i.soft_mask, MASK, ""),
    "decode": (l2i.decode, {**MASK, "hop_length": 32}, "hop_length length"),
    "activations": (l2i.activations, {"V": V, "W": W, "n_iter": 2}, ""),
    "learn_dictionary": (l2i.learn_dictionary, {"clips_or_V": V, "n_components": 2, "max_iter": 2}, ""),
    "learn_dictionary_online": (l2i.learn_dictionary_online, {"blocks": [V], "n_components": 2, "n_updates": 2}, ""),
    "NMF": (lambda **k: l2i.NMF(**k).fit(V), {"n_components": 2, "max_iter": 2, "tol": 0}, ""),
    "set_num_threads": (keep_threads, {"n": 2}, ""),
    "set_cpu_precision": (l2i.set_cpu_precision, {"precision": "float32"}, ""),
    "set_gpu_precision": (l2i.set_gpu_precision, {"precision": "float32"}, ""),
    "StreamDecoder": (l2i.StreamDecoder, {"W": W, "hop_length": 32}, ""),
    "StreamDecoder.weights": (Setter(decoder, "weights"), {"value": ONES}, ""),
    "StreamDecoder.scale": (Setter(decoder, "scale"), {"value": 1.0}, ""),
    "StreamDecoder.start": (Setter(decoder, "start"), {"value": ONES}, ""),
    "StreamDecoder.frames_in": (decoder().frames_in, {"n": 1}, ""),
    "StreamDecoder.push": (decoder().push, {"block": Y}, "last"),
    "DeviceStreams": (l2i.DeviceStreams, {"W": W, "n_streams": 2, "hop_length": 32, "device": "cpu"}, ""),
    "DeviceStreams.scale": (Setter(streams, "scale"), {"value": 1.0}, ""),
    "DeviceStreams.push": (streams().push, {"blocks": torch.zeros(2, 32)}, ""),
    "DeviceStreams.reset": (streams().reset, {"which": [0]}, ""),
    "Analysis": (Analysis, {}, ""),
    "Selection": (Selection, {}, ""),
    "DictionaryConfig": (DictionaryConfig, {}, ""),
    "ClassifierConfig": (ClassifierConfig, {}, ""),
    "InterpreterConfig": (InterpreterConfig, {}, ""),
    "TrainingConfig": (TrainingConfig, {}, ""),
    "LogMel": (LogMel, {"analysis": Analysis()}, ""),
    "Classifier": (Classifier, {"n_classes": 3, "width": 0.0625, "embedding": 16}, ""),
    "Interpreter": (
        Interpreter,
        {"dictionary": torch.rand(33, 4), "n_classes": 3, "hidden_channels": (8, 16, 32), "width": 0.0625},
        "",
    ),
    "TorchNetwork": (
        TorchNetwork,
        {
            "module": Classifier(3, width=0.0625, embedding=16),
            "front_end": LogMel(Analysis()),
            "classes": ["a", "b", "c"],
        },
        "",
    ),
    "Dataset.select": (Dataset("two", ("a", "b"), CLIPS, False, 1.0).select, {}, ""),
    "mix_at_level": (mix_at_level, {"y": Y, "other": Y, "level_db": 3.0}, ""),
    "add_noise": (add_noise, {"y": Y, "snr_db": 3.0}, ""),
    "demo_scene": (demo_scene, {"kind": "dog", "sr": 8000}, "sr"),
    "duplicate_components": (duplicate_components, {"dictionary": W}, "dictionary"),
}


def arguments_of(name: str) -> Iterator[str]:
    function, right, left_alone = CALLS[name]
    # The estimator's parameters are those of its constructor.
    found = inspect.signature(l2i.NMF if name == "NMF" else function).parameters
    return (key for key in {**found, **right} if key not in ("out", "k", *left_alone.split()))


def complaint(call: Callable[[], Any], what: str) -> str:
    """Call, and return "" for an answer or an error of one sentence, otherwise what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scikit-learn about convergence, and of librosa about empty filters
            call()
    except Exception as error:
        said = str(error)
        named = type(error) in (TypeError, ValueError, FileNotFoundError) and OURS.search(said)
        return "" if named and "\n" not in said and not said.endswith(".") else f"{what}: {error!r}"
    return ""


@pytest.mark.parametrize("name", CALLS)
def test_no_wrong_argument_reaches_the_inside(name: str) -> None:
    function, right, _ = CALLS[name]
    function(**right)
    for argument in arguments_of(name):
        for value in WRONG:
            what = f"{name}({argument}={str(value)[:30]})"
            assert not complaint(lambda a=argument, v=value: function(**{**right, a: v}), what)


def test_nor_does_one_of_a_model(tiny_model: L2I) -> None:
    clip = (RNG.standard_normal(3000).astype(np.float32), 44100)

    def made(method: Callable[..., Any]) -> Callable[..., None]:
        def make(**settings: Any) -> None:
            method(**settings).close()

        return make

    options = ("targets", "threshold", "top_k", "domain")
    calls: list[tuple[Callable[..., Any], dict[str, Any], tuple[str, ...]]] = [
        (tiny_model.interpret, {"source": clip}, ("source", *options)),
        (tiny_model.interpret_batch, {"sources": [clip]}, ("sources",)),
        (tiny_model.to, {}, ("device",)),
        (made(tiny_model.stream), {}, ("channels", "mode", "refresh", "n_iter", "window", "incremental", *options)),
        (made(tiny_model.stream_pool), {}, ("n", "mode", "refresh")),
        (L2I, {"network": tiny_model.network, "interpreter": tiny_model.interpreter},
         ("network", "interpreter", "selection", "name", "training")),
    ]  # fmt: skip
    for call, right, arguments in calls:
        for argument in arguments:
            for value in WRONG:
                what = f"{getattr(call, '__qualname__', call)}({argument}={str(value)[:30]})"
                assert not complaint(lambda c=call, r=right, a=argument, v=value: c(**{**r, a: v}), what)
