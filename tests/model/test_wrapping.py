"""Networks of any kind are wrapped, and a model finds its network again or refuses another."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import l2i_fast as l2i
from l2i_fast.model import L2I
from l2i_fast.model.windowed import WindowedNetwork
from l2i_fast.model.wrapping import find_network
from l2i_fast.networks.inputs import MelSpectrogram
from l2i_fast.networks.interpreter import Interpreter

from ..helpers import refused

RATE = 8000
CLASSES = ["low", "high", "noise"]


class Small(nn.Module):
    """A network of log-mel bands with three blocks."""

    def __init__(self, seed: int = 0, n_classes: int = 3) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.blocks = nn.ModuleList(
                nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)) for a, b in ((1, 4), (4, 8))
            )
            self.out = nn.Linear(8, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.out(x.mean((2, 3)))
        return logits


def bands() -> MelSpectrogram:
    return MelSpectrogram(RATE, 256, 80, n_mels=32, center=False, amin=1e-4)


def small(seed: int = 0, **changed: Any) -> WindowedNetwork:
    settings = {"front_end": bands(), "layers": ["blocks.0", "blocks.1"], "window": 0.5, "hop": 0.25}
    return l2i.wrap(Small(seed), CLASSES, **settings | changed)


def model_of(network: WindowedNetwork) -> L2I:
    """A model with an interpreter of random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        W = torch.rand(network.analysis.n_fft // 2 + 1, 5)
        maps = network.run(torch.zeros(1, RATE)).maps.values()
        interpreter = Interpreter(
            W / W.norm(dim=0), len(network.classes), [x.shape[1] for x in maps], rows=[x.shape[3] for x in maps],
            width=0.05, updates=2,
        )  # fmt: skip
        nn.init.constant_(interpreter.psi.second.bias, 0.1)
    return L2I(network, interpreter, name="small")


@pytest.fixture
def y(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(3 * RATE).astype(np.float32) / 9


def test_a_module_is_wrapped(y: np.ndarray) -> None:
    network = small()
    assert (network.window, network.hop, network.analysis.sample_rate) == (4000, 2000, RATE)
    assert [str(layout) for layout in network.layouts] == ["b c t f", "b c t f"]
    assert network.classes == tuple(CLASSES)
    answers = network.run(torch.from_numpy(y)[None])
    assert {name: tuple(x.shape) for name, x in answers.maps.items()} == {
        "blocks.0": (1, 4, 138, 16),  # 23 columns a window
        "blocks.1": (1, 8, 66, 8),
    }
    with torch.no_grad():
        starts = network.starts(len(y))
        p = Small().eval()(bands()(torch.stack([torch.from_numpy(y[s : s + 4000]) for s in starts]))).softmax(1).mean(0)
    np.testing.assert_allclose(network.classify([y])[0], p, atol=1e-6)


def test_a_function_is_wrapped(y: np.ndarray) -> None:
    def energy(x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        frames = x.unfold(1, 100, 100).square()
        means = frames.mean(2)
        return torch.stack([means.mean(1), means.amax(1)], 1), {"means": means, "frames": frames}

    network = l2i.wrap(energy, 2, sample_rate=RATE, layers={"frames": "b t c"}, multilabel=True)
    assert network.classes == ("class 0", "class 1")
    assert network.window is None
    assert network.run(torch.from_numpy(y)[None]).maps["frames"].shape == (1, 100, 240, 1)
    assert model_of(network).interpret((y, RATE), targets=0).audio.shape == y.shape
    with refused(ValueError, "layers names 'sums', but the network returns means, frames"):
        l2i.wrap(energy, 2, sample_rate=RATE, layers={"sums": "b t"})


def test_what_is_interpreted_is_heard_at_its_level(y: np.ndarray) -> None:
    model = model_of(small())
    result = model.interpret((y, RATE))
    assert result.audio.shape == y.shape
    assert result.prediction == (CLASSES[int(model.network.classify([y])[0].argmax())],)
    np.testing.assert_allclose(result.probabilities, model.network.classify([y])[0], atol=1e-6)
    long, short = model.interpret_batch([(np.tile(y, 3), RATE), (y[:300], RATE)])
    assert long.audio.shape == (9 * RATE,)
    assert short.audio.shape == (300,)


def test_a_model_finds_its_network_again_or_refuses(y: np.ndarray, tmp_path: Path) -> None:
    model = model_of(small())
    folder = model.save(tmp_path / "model")
    again = L2I.load(folder, small())
    np.testing.assert_array_equal(again.interpret((y, RATE)).audio, model.interpret((y, RATE)).audio)
    saved = json.loads((folder / "config.json").read_text())["network"]
    assert saved["layers"] == {"blocks.0": "b c t f", "blocks.1": "b c t f"}
    with refused(ValueError, "network is None, but the model was fitted to one of yours, which must be given"):
        L2I.load(folder)
    with refused(ValueError, "network has changed since the model was fitted to it: fit it again"):
        L2I.load(folder, small(seed=1))
    changed = "network is wrapped in another way than when the model was fitted to it: fit it again"
    with refused(ValueError, changed):
        L2I.load(folder, small(layers=["blocks.1", "blocks.0"]))
    with refused(ValueError, "network has pooling max, but the model was fitted to it with mean: fit it again"):
        L2I.load(folder, small(pooling="max"))
    with refused(ValueError, "network has multilabel True, but the model was fitted to it with False: fit it again"):
        L2I.load(folder, small(multilabel=True))

    def louder(y: Tensor) -> Tensor:
        return bands()(3 * y)

    with refused(
        ValueError, "network answers otherwise than when the model was fitted to it, with the same weights: ..."
    ):
        L2I.load(folder, small(front_end=louder, sample_rate=RATE))
    with refused(TypeError, "network is Small(...), but must be wrapped first: l2i_fast.wrap(network, classes, ...)"):
        L2I.load(folder, Small())  # type: ignore[arg-type]
    other = l2i.wrap(Small(), ["a", "b", "c"], front_end=bands(), layers=["blocks.0", "blocks.1"], window=0.5)
    with refused(ValueError, "network has other classes than the model: a, b, c in place of low, high, noise"):
        L2I.load(folder, other)
    with refused(ValueError, "network is given, but ...esc10 holds a network of its own"):
        L2I.load("esc10", small())


def test_the_function_that_makes_a_network_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "from dataclasses import dataclass\n"
        "import l2i_fast as l2i\n"
        "from tests.model.test_wrapping import small\n"
        "@dataclass\nclass Settings:\n    seed: int = 0\n"
        "def make():\n    return small(Settings().seed)\n"
        "def wrong():\n    return 3\n"
        "def fails():\n    return 1 / 0\n"
        "def ends():\n    raise SystemExit(3)\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    network = find_network(f"{script}:make")
    assert network.origin is not None
    assert network.origin.factory == f"{script}:make"
    folder = model_of(network).save(tmp_path / "model")
    assert L2I.load(folder, f"{script}:make").network.classes == tuple(CLASSES)
    with refused(ValueError, f"...which must be given, as by '{script}:make'"):
        L2I.load(folder)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_network("mine:make").fingerprint == network.fingerprint
    for where, reason in {
        "mine.make": "network is 'mine.make', but must be file.py:function or package.module:function",
        "nothing:make": "network is 'nothing:make', but nothing cannot be imported: No module named 'nothing'",
        "no.py:make": "network is 'no.py:make', but no.py cannot be imported: there is no file no.py",
        "mine:made": "network is 'mine:made', but mine has no function made",
        "mine:number": "network is 'mine:number', but mine has no function number",
        "mine:fails": "network is 'mine:fails', but the function fails: ZeroDivisionError: division by zero",
        "mine:ends": "network is 'mine:ends', but the function fails: SystemExit: 3",
        "mine:wrong": "network is 'mine:wrong', but the function returns 3: it must return what l2i_fast.wrap does",
    }.items():
        with refused(ValueError, reason):
            find_network(where)
    sys.modules.pop("mine")


def test_a_folder_runs_no_code(tmp_path: Path) -> None:
    folder = model_of(small()).save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["network"] |= {"factory": "os:abort", "arguments": {"code": 1}}
    (folder / "config.json").write_text(json.dumps(config))
    with refused(ValueError, "...one of yours, which must be given, as by 'os:abort'"):
        L2I.load(folder)
    config["network"]["factory"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    with refused(ValueError, "...network.factory is 3, but must be a string"):
        L2I.load(folder)


def test_wrong_networks() -> None:
    module = Small()
    given: dict[str, Any] = {"front_end": bands(), "layers": ["blocks.0"], "window": 0.5}
    with refused(TypeError, "classes is None, but must name the network's classes, or be their number"):
        l2i.wrap(module, **given)
    with refused(TypeError, "network is 3, but must be a torch module, a session, a function or a name"):
        l2i.wrap(3, 2, **given)
    with refused(ValueError, "network is 'yam', but must be a network or the name of an adapter: aisfx, ...yamnet"):
        l2i.wrap("yam")
    with refused(TypeError, "window is given, but the adapter 'yamnet' states it itself"):
        l2i.wrap("yamnet", window=3.0)
    with refused(TypeError, "the adapter 'yamnet' has no argument 'classes'; it has weights"):
        l2i.wrap("yamnet", 3)
    with refused(TypeError, "network is 'a.onnx', but a file needs a session: OnnxSession or LiteRTSession, ..."):
        l2i.wrap("a.onnx", 3)
    with refused(TypeError, "wrap has no argument 'hops', and only adapters have others"):
        l2i.wrap(module, 3, hops=1, **given)
    with refused(ValueError, "classes has length 2, but the network returns 3 logits"):
        l2i.wrap(module, 2, **given)
    with refused(ValueError, "sample_rate is 16000, but the front end takes 8000 Hz"):
        l2i.wrap(module, 3, sample_rate=16000, **given)
    with refused(TypeError, "sample_rate is None, but must be the network's, since the front end states none"):
        l2i.wrap(module, 3, layers=["blocks.0"])
    with refused(ValueError, "layers names 'blocks.7', but must name submodules of the network: ..."):
        l2i.wrap(module, 3, **given | {"layers": ["blocks.7"]})
    with refused(TypeError, "layers is 'blocks.0', but must be a list of names, or name the layout of each"):
        l2i.wrap(module, 3, **given | {"layers": "blocks.0"})
    with refused(ValueError, "hop is 0.6 seconds, but must be at most the window, which is 0.5"):
        l2i.wrap(module, 3, hop=0.6, **given)
    with refused(ValueError, "window is 0 seconds, but must be at least a sample and at most an hour"):
        l2i.wrap(module, 3, **given | {"window": 0})
    with refused(ValueError, "...'out'..."):  # no axis of time
        l2i.wrap(module, 3, **given | {"layers": ["out"]})


@pytest.mark.parametrize(
    ("front_end", "message"),
    [
        (lambda y: None, "front_end returns None, but must return a tensor, an array, or a mapping of those"),
        (lambda y: {"x": 3}, "front_end returns 3 as 'x', but must return a tensor, ..."),
        (
            lambda y: bands()(y)[:1],
            "front_end returns shape (1, 1, 47, 32) for 2 windows, but its first axis must count them",
        ),
        (lambda y: 1 / 0, "front_end fails on samples of shape (2, 4000): ZeroDivisionError: division by zero"),
        (lambda y: bands()(y).double(), "network fails on a tensor of shape (2, 1, 47, 32), torch.float64 against ..."),
        (lambda y: y, "network fails on a tensor of shape (2, 4000), of windows of 4000 samples: RuntimeError: ..."),
        (lambda y: {"mel": y}, "network fails on mel of shape (2, 4000), of windows of 4000 samples: TypeError: ..."),
    ],
)
def test_front_ends_that_do_not_fit(front_end: Any, message: str) -> None:
    with refused(ValueError, message):
        l2i.wrap(Small(), 3, front_end=front_end, sample_rate=RATE, layers=["blocks.0"], window=0.5)


def test_scores_that_are_none() -> None:
    given: dict[str, Any] = {"front_end": bands(), "layers": {"blocks.0": "b c t f"}, "window": 0.5}
    broken, loud, one = Small(), Small(), Small(n_classes=1)
    with torch.no_grad():
        broken.out.bias.fill_(torch.nan)
        loud.out.bias.fill_(5.0)
    with refused(ValueError, "the network returns NaN or infinity in its scores, but finite ones are needed"):
        l2i.wrap(broken, 3, **given)
    with refused(ValueError, "output is 'probabilities', but the network's scores go from ...: they are logits"):
        l2i.wrap(loud, 3, output="probabilities", **given)
    with refused(ValueError, "classes has length 1, but a network with one class needs multilabel=True"):
        l2i.wrap(one, 1, **given)
    assert l2i.wrap(one, 1, multilabel=True, **given).classes == ("class 0",)
    with refused(ValueError, "network returns ..., but must return (scores, {name: map})"):
        l2i.wrap(lambda y: y, 2, sample_rate=RATE)
