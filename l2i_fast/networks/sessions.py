"""Networks in files, run by ONNX Runtime or LiteRT, with the outputs of some of their layers."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import os
import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from l2i_fast.arguments import integer, shown
from l2i_fast.forks import lock
from l2i_fast.recording import import_optional
from l2i_fast.stderr import discard_c_stderr

#: An axis as the file states it: its size, its name if any size is possible, or None if nothing is known.
Axis = int | str | None
Values = Tensor | NDArray[Any]
Run = dict[str, NDArray[Any]]


class HiddenTensor(NamedTuple):
    """A tensor of a network that `layers` can name.

    Attributes
    ----------
    name : str
    operator : str
        What computes it, such as "Conv".
    dtype : str or None
        As NumPy names it; None if the file does not tell.
    shape : tuple or None
        Sizes as ints, names of sizes that are open, and None for what is unknown; None if not even the rank is known.
    """

    name: str
    operator: str
    dtype: str | None
    shape: tuple[Axis, ...] | None


class _Input(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[Axis, ...] | None

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether a shape has the axes of this one."""
        if self.shape is None:
            return True
        same = (not isinstance(axis, int) or axis == size for axis, size in zip(self.shape, shape, strict=False))
        return len(shape) == len(self.shape) and all(same)


class _Session(ABC):
    """What the runtimes have in common: items of a batch, constants, and outputs joined."""

    #: Names of the tensors whose values `__call__` returns after the scores.
    layers: tuple[str, ...]
    #: Name of the tensor of scores.
    scores: str
    #: BLAKE2b digest of the file's bytes (16 bytes, in hexadecimal), so that a changed network is noticed.
    fingerprint: str
    _again: Callable[..., Any]

    def __init__(self, name: str, takes: dict[str, _Input], inputs: Mapping[str, Any]) -> None:
        self._name = name
        if unknown := [key for key in inputs if key not in takes]:
            raise ValueError(f"inputs has {unknown[0]!r}, but must be among the inputs of {name}: {_listed(takes)}")
        self._takes = {key: value for key, value in takes.items() if key not in inputs}
        if not self._takes:
            raise ValueError(f"inputs has every input of {name}, but must leave one to the signals")
        self._constants = {key: _cast(np.asarray(value), key, takes[key], key) for key, value in inputs.items()}
        # A constant with an axis of the batch, such as a state, has the size of one item there.
        first = {spec.shape[0] for spec in self._takes.values() if spec.shape}
        shared = {axis for key in inputs for axis in takes[key].shape or () if isinstance(axis, str)} & first
        self._alone = bool(shared) or 1 in first

    def select(self, layers: Sequence[str]) -> Self:
        """Return a session of the same file with other layers, such as names that `available` lists.

        Raises
        ------
        ValueError
            An unknown name, or a file that has changed since.
        """
        session: Self = self._again(layers)
        if session.fingerprint != self.fingerprint:
            raise ValueError(f"{self._name} has changed since it was opened first")
        return session

    @abstractmethod
    def available(self) -> list[HiddenTensor]:
        """Return the tensors that `layers` can name, in order of execution."""

    @abstractmethod
    def _run(self, feed: Run) -> list[NDArray[Any]]:
        """Return the scores and the layers' values."""

    def __call__(self, x: Values | Mapping[str, Values]) -> tuple[Tensor, list[Tensor]]:
        """Return the scores of a batch and the values of `layers`.

        Parameters
        ----------
        x : Tensor, ndarray, or mapping from names of inputs to either
            The network's input, with the batch B as the first axis.

        Returns
        -------
        scores : Tensor (B, C), float32
        values : list of Tensors (B, ...), float32
            In the order of `layers`, with axes as the network has them.

        Raises
        ------
        ValueError
            An input whose shape or dtype the network does not take, or outputs that have no axis for the batch.
        """
        given = x if isinstance(x, Mapping) else self._only(x)
        if given.keys() != self._takes.keys():
            raise ValueError(
                f"x has {_listed(given)}, but must have the inputs of {self._name}: {_listed(self._takes)}"
            )
        arrays = {key: _array(value) for key, value in given.items()}
        sizes = {len(value) if value.ndim else 0 for value in arrays.values()}
        if len(sizes) != 1 or 0 in sizes:
            shapes = _listed(f"{key} of shape {value.shape}" for key, value in arrays.items())
            raise ValueError(f"x has {shapes}, but needs at least one item, and as many in every input")
        n = sizes.pop()
        # Networks such as YAMNet's LiteRT file take a waveform without an axis for the batch.
        bare = all(value.ndim > 1 and self._takes[key].takes(value.shape[1:]) for key, value in arrays.items())
        bare = bare and not all(self._takes[key].takes(value.shape) for key, value in arrays.items())
        runs = [self._run({**self._constants, **feed}) for feed in self._feeds(arrays, n, bare)]
        outputs = [self._joined(name, values, n, bare) for name, values in self._named(runs)]
        return self._as_scores(outputs[0]), outputs[1:]

    def _only(self, x: Values) -> dict[str, Values]:
        if len(self._takes) > 1:
            raise ValueError(
                f"x is one array, but {self._name} has several inputs: {_listed(self._takes)}; "
                "pass a mapping, or constants as inputs"
            )
        return {next(iter(self._takes)): x}

    def _feeds(self, arrays: Run, n: int, bare: bool) -> Iterator[Run]:
        if bare:
            parts = [{key: value[i] for key, value in arrays.items()} for i in range(n)]
        elif self._alone:
            parts = [{key: value[i : i + 1] for key, value in arrays.items()} for i in range(n)]
        else:
            parts = [arrays]
        for part in parts:
            yield {key: self._cast(key, value) for key, value in part.items()}

    def _cast(self, key: str, value: NDArray[Any]) -> NDArray[Any]:
        return _cast(value, "x", self._takes[key], key)

    def _named(self, runs: list[list[NDArray[Any]]]) -> Iterator[tuple[str, list[NDArray[Any]]]]:
        return zip((self.scores, *self.layers), map(list, zip(*runs, strict=True)), strict=True)

    def _joined(self, name: str, values: list[NDArray[Any]], n: int, bare: bool) -> Tensor:
        shape = values[0].shape
        if bare and shape[:1] != (1,):
            joined = np.stack(values)
        else:
            joined = np.concatenate(values) if len(values) > 1 else values[0]
        if joined.dtype.kind != "f":
            raise ValueError(f"{name!r} has the dtype {joined.dtype}, but layers and scores must be real numbers")
        if not shape or len(joined) != n:
            raise ValueError(
                f"{name!r} has the shape {shape} for {n // len(values)} inputs, but its first axis must be the batch"
            )
        return torch.from_numpy(np.ascontiguousarray(joined, np.float32))

    def _as_scores(self, scores: Tensor) -> Tensor:
        """Return scores (B,) or (B, ..., C, ...) with other axes of size 1 as (B, C)."""
        if sum(size > 1 for size in scores.shape[1:]) > 1:
            raise ValueError(f"scores names {self.scores!r} of shape {tuple(scores.shape)}, but (B, C) is needed")
        return scores.reshape(len(scores), -1)


class OnnxSession(_Session):
    """An ONNX file, run by ONNX Runtime on the CPU, that also returns hidden tensors.

    The file is not changed: a copy of its graph in memory has the tensors of `layers` as further outputs.

    Parameters
    ----------
    network : path or bytes
        The file, or its contents. Weights in further files are read from beside it.
    layers : sequence of str
        Names of tensors, or of nodes for their first output; see `available`. Without any, only scores are returned.
    scores : str, optional
        Name of the tensor of scores (B, C), hidden ones included. Needed where not exactly one output is a
        two-dimensional array of floats.
    inputs : mapping, optional
        Constant values of inputs other than the signals, such as a rate or an initial state. Where one has an axis of
        the batch, items are run one at a time, and each begins with this value: states are not carried from one item
        to the next.
    threads : int
        Threads of one run.

    Raises
    ------
    ValueError
        A file that is damaged or that ONNX Runtime cannot run, names that it does not have, or more than 2 GB.
    ImportError
        Packages are missing: ``pip install 'l2i_fast[onnx]'``.

    Examples
    --------
    Perch reads 5 s of sound at 32 kHz and has several outputs, of which its maps are one; `available` lists the
    tensors inside::

        session = OnnxSession("perch_v2.onnx", ["spatial_embedding"], scores="label")
        scores, (maps,) = session(torch.zeros(2, 160000))

    Notes
    -----
    Items are run one at a time if the file fixes the batch to 1. Tensors inside branches and loops cannot be returned.
    """

    def __init__(
        self,
        network: str | os.PathLike[str] | bytes,
        layers: Sequence[str] = (),
        scores: str | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        threads: int = 1,
    ) -> None:
        threads = integer(threads, "threads", most=1024)
        self._again = functools.partial(type(self), network, scores=scores, inputs=inputs, threads=threads)
        onnx = import_optional("onnx", "read ONNX files")
        runtime = import_optional("onnxruntime", "run ONNX files")
        content, name = _read(network)
        model, self.fingerprint = _onnx_model(onnx, content, name, network)
        graph = model.graph
        tensors = {output: output for node in graph.node for output in node.output if output}
        names = {node.name: node.output[0] for node in graph.node if node.name and node.output} | tensors
        hidden = {output for node in graph.node for inner in _subgraphs(node) for output in _names(inner)}
        self.layers = tuple(layers)
        told = self.layers if scores is None else (*self.layers, scores)
        for argument, tensor in zip(["layers"] * len(self.layers) + ["scores"], told, strict=False):
            if tensor not in names:
                _refuse(argument, tensor, name, names, inside=tensor in hidden)
        outputs = [output.name for output in graph.output]
        added = [names[tensor] for tensor in told if names[tensor] not in outputs]
        graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in dict.fromkeys(added))
        self._session = _onnx_runtime(runtime, model, name, threads)
        for tensor in graph.initializer:  # the session has the weights; shapes are found without the large ones
            if tensor.ByteSize() > _SMALL:
                for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                    tensor.ClearField(field)
        self._model, self._onnx = model, onnx
        dtype = onnx.helper.tensor_dtype_to_np_dtype
        takes = {
            value.name: _Input(dtype(value.type.tensor_type.elem_type), _onnx_shape(value))
            for value in graph.input
            if value.name in {needed.name for needed in self._session.get_inputs()}
        }
        super().__init__(name, takes, inputs or {})
        free = [value for value in self._session.get_outputs() if value.name in outputs]
        if scores is None:
            taken = {names[tensor] for tensor in self.layers}
            flat = [v.name for v in free if v.type in _ONNX_FLOATS and len(v.shape) == 2 and v.name not in taken]
            scores = _choose_scores(flat, outputs, name)
        self.scores = scores
        self._fetched = [names[tensor] for tensor in (scores, *self.layers)]

    def _run(self, feed: Run) -> list[NDArray[Any]]:
        try:
            # A tensor that is asked for twice would come as one array.
            found = dict(zip(names := list(dict.fromkeys(self._fetched)), self._session.run(names, feed), strict=True))
        except Exception as error:
            raise ValueError(f"{self._name} cannot be run on {_shapes(feed)}: {_reason(error)}") from error
        return [found[name] for name in self._fetched]

    def available(self) -> list[HiddenTensor]:
        """Return the tensors that `layers` can name, in order of execution.

        These are the floating-point ones that depend on the input and have at least two axes, as far as is known.
        """
        try:
            graph = self._onnx.shape_inference.infer_shapes(self._model).graph
        except Exception:  # what is not known stays unknown
            graph = self._model.graph
        known = {value.name: value for value in (*graph.value_info, *graph.output, *graph.input)}
        reached, found = {value.name for value in graph.input}, []
        for node in graph.node:
            read = set(node.input) | {name for inner in _subgraphs(node) for name in _names(inner, reads=True)}
            if not read & reached:
                continue
            reached |= set(node.output)
            for output in filter(None, node.output):
                value = known.get(output)
                number = value.type.tensor_type.elem_type if value is not None else 0
                dtype = str(self._onnx.helper.tensor_dtype_to_np_dtype(number)) if number else None
                shape = _onnx_shape(value) if value is not None else None
                if (dtype or "float").startswith("float") and (shape is None or len(shape) >= 2):
                    found.append(HiddenTensor(output, node.op_type, dtype, shape))
        return found


class LiteRTSession(_Session):
    """A LiteRT (TensorFlow Lite) file, run on the CPU, that also returns hidden tensors.

    The file is not changed: a copy in memory has the tensors of `layers` as further outputs.

    Quantised inputs, scores and layers are converted from and to real numbers by the scales in the file.

    Parameters
    ----------
    network : path or bytes
        The file, or its contents.
    layers : sequence of str
        Names of tensors; see `available`. Without any, only scores are returned.
    scores : str, optional
        Name of the tensor of scores (B, C), hidden ones included. Needed where not exactly one output is a
        two-dimensional array.
    inputs : mapping, optional
        Constant values of inputs other than the signals. Items are then run one at a time.
    threads : int
        Threads of one run.

    Raises
    ------
    ValueError
        A file that is damaged or that LiteRT cannot run, or names that it does not have.
    ImportError
        The package is missing: ``pip install 'l2i_fast[litert]'``.

    Examples
    --------
    BirdNET reads 3 s of sound at 48 kHz; its maps are (B, frequency, time, channels)::

        names = ["model/BLOCK_3-5_ADD/add", "model/BLOCK_4-4_ADD/add"]
        session = LiteRTSession("BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite", names)
        logits, (early, late) = session(torch.zeros(2, 144000))  # late: (2, 3, 8, 192)

    Notes
    -----
    Axes that the file leaves open take the size of the input; where it fixes the batch to 1, items are run one at a
    time.
    """

    def __init__(
        self,
        network: str | os.PathLike[str] | bytes,
        layers: Sequence[str] = (),
        scores: str | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        threads: int = 1,
    ) -> None:
        threads = integer(threads, "threads", most=1024)
        self._again = functools.partial(type(self), network, scores=scores, inputs=inputs, threads=threads)
        import_optional("ai_edge_litert", "run LiteRT files")
        runtime = importlib.import_module("ai_edge_litert.interpreter")
        content, name = _read(network)
        self.fingerprint = hashlib.blake2b(content, digest_size=16).hexdigest()
        if content[4:8] != b"TFL3":
            raise ValueError(f"{name} is not a LiteRT file")
        with _litert_errors(name):
            first = runtime.Interpreter(model_content=content, num_threads=threads)
            operators = _litert_operators(content)
        self._details = {detail["index"]: detail for detail in first.get_tensor_details()}
        # The last of a name is the one that others read, if a converter has given it twice.
        self._made = {index: operator for operator, made in operators for index in made if index in self._details}
        self._indices = {self._details[index]["name"]: index for index in self._made}
        self.layers = tuple(layers)
        told = self.layers if scores is None else (*self.layers, scores)
        for argument, tensor in zip(["layers"] * len(self.layers) + ["scores"], told, strict=False):
            if tensor not in self._indices:
                _refuse(argument, tensor, name, self._indices)
        self._fed = {detail["name"]: detail for detail in first.get_input_details()}
        takes = {
            key: _Input(np.dtype(np.float32 if _scales(detail) else detail["dtype"]), _litert_shape(detail))
            for key, detail in self._fed.items()
        }
        super().__init__(name, takes, inputs or {})
        self._alone = self._alone or bool(inputs)
        outputs = {detail["name"]: detail for detail in first.get_output_details()}
        if scores is None:
            flat = [key for key, detail in outputs.items() if len(detail["shape"]) == 2 and key not in self.layers]
            scores = _choose_scores(flat, list(outputs), name)
        self.scores = scores
        indices = [detail["index"] for detail in outputs.values()]
        added = [self._indices[tensor] for tensor in dict.fromkeys(told) if self._indices[tensor] not in indices]
        with _litert_errors(name):
            content = _with_outputs(content, [*indices, *added]) if added else content
            self._interpreter = runtime.Interpreter(model_content=content, num_threads=threads)
            if not any(None in _litert_shape(detail) for detail in self._fed.values()):
                self._interpreter.allocate_tensors()
        self._lock = lock()
        self._allocated: dict[str, tuple[int, ...]] = {}

    def _run(self, feed: Run) -> list[NDArray[Any]]:
        with discard_c_stderr(), self._lock:  # in this order: neither lock is held while the other is taken
            try:
                self._allocate({key: value.shape for key, value in feed.items()})
                for key, value in feed.items():
                    self._interpreter.set_tensor(self._fed[key]["index"], _quantized(value, self._fed[key]))
                self._interpreter.reset_all_variables()
                self._interpreter.invoke()
                indices = [self._indices[name] for name in (self.scores, *self.layers)]
                return [_real(self._interpreter.get_tensor(index), self._details[index]) for index in indices]
            except (RuntimeError, ValueError) as error:
                raise ValueError(f"{self._name} cannot be run on {_shapes(feed)}: {_reason(error)}") from error

    def _allocate(self, shapes: dict[str, tuple[int, ...]]) -> None:
        if shapes == self._allocated:
            return
        self._allocated = {}  # also if this fails
        for key, shape in shapes.items():
            if _litert_shape(self._fed[key]) != shape:
                self._interpreter.resize_tensor_input(self._fed[key]["index"], shape, strict=True)
        self._interpreter.allocate_tensors()
        self._allocated = shapes

    def available(self) -> list[HiddenTensor]:
        """Return the tensors that `layers` can name, in order of execution.

        These are the floating-point or quantised ones that depend on the input and have at least two axes.
        """
        found = []
        for index, operator in self._made.items():
            detail = self._details[index]
            real = np.dtype(detail["dtype"]).kind == "f" or _scales(detail)
            if real and len(detail["shape"]) >= 2 and self._indices[detail["name"]] == index:
                dtype = np.dtype(detail["dtype"]).name
                found.append(HiddenTensor(detail["name"], operator, dtype, _litert_shape(detail)))
        return found


#: Most bytes of a weight that may be the shape of something.
_SMALL = 4096
_ONNX_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")


def _read(network: str | os.PathLike[str] | bytes) -> tuple[bytes, str]:
    """Return the contents of a file, and how errors name it."""
    if isinstance(network, bytes):
        return network, "the network"
    with open(network, "rb") as file:
        return file.read(), os.fspath(network)


def _onnx_model(
    onnx: ModuleType, content: bytes, name: str, network: str | os.PathLike[str] | bytes
) -> tuple[Any, str]:
    """Return a model with all its weights, and the digest of its files."""
    digest = hashlib.blake2b(content, digest_size=16)
    try:
        model = onnx.load_model_from_string(content)
        if not model.graph.node:
            raise ValueError("it has no graph")
    except Exception as error:
        raise ValueError(f"{name} cannot be read as an ONNX file: {_reason(error)}") from error
    helper = onnx.external_data_helper
    outside = [tensor for tensor in model.graph.initializer if helper.uses_external_data(tensor)]
    if outside and isinstance(network, bytes):
        raise ValueError("network has its weights in further files, but must be the path of the file beside them")
    if outside:
        folder = os.path.dirname(os.path.abspath(os.fspath(network)))
        try:
            for tensor in outside:
                helper.load_external_data_for_tensor(tensor, folder)
                digest.update(tensor.raw_data)
                tensor.data_location = onnx.TensorProto.DEFAULT
                del tensor.external_data[:]
        except Exception as error:
            raise ValueError(f"the weights of {name} cannot be read: {_reason(error)}") from error
    return model, digest.hexdigest()


def _onnx_runtime(runtime: ModuleType, model: Any, name: str, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # errors are raised
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        content = model.SerializeToString()
    except Exception as error:
        raise ValueError(f"{name} has more than 2 GB, but no more is supported") from error
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ValueError(f"{name} cannot be run by ONNX Runtime: {_reason(error)}") from error


def _subgraphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _names(graph: Any, reads: bool = False) -> Iterator[str]:
    """Yield the names of the tensors that the nodes of a graph and of those inside it make, or read."""
    for node in graph.node:
        yield from node.input if reads else node.output
        if node.name and not reads:
            yield node.name
        for inner in _subgraphs(node):
            yield from _names(inner, reads)


def _onnx_shape(value: Any) -> tuple[Axis, ...] | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim)


def _litert_operators(content: bytes) -> list[tuple[str, list[int]]]:
    """Return the name and the outputs of each operator of the main graph that depends on its input, in order."""
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    codes = {value: key for key, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    model = schema.Model.GetRootAs(content, 0)
    graph, found = model.Subgraphs(0), []
    reached = {graph.Inputs(i) for i in range(graph.InputsLength())}
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        outputs = [operator.Outputs(j) for j in range(operator.OutputsLength())]
        if reached.isdisjoint(operator.Inputs(j) for j in range(operator.InputsLength())):
            continue
        reached.update(outputs)
        code = model.OperatorCodes(operator.OpcodeIndex())
        # Files before the field of 32 bits have only the one of 8.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        found.append((codes.get(number, str(number)), outputs))
    return found


@contextmanager
def _litert_errors(name: str) -> Iterator[None]:
    """Raise errors of LiteRT as those of a file, and discard what it prints."""
    try:
        with discard_c_stderr():
            yield
    except Exception as error:
        raise ValueError(f"{name} cannot be run by LiteRT: {_reason(error)}") from error


def _with_outputs(content: bytes, indices: Sequence[int]) -> bytes:
    """Return a file whose main graph has these tensors as outputs.

    The list stands behind the end, and the graph refers to it there, so that nothing else moves: see the format of
    FlatBuffers (https://flatbuffers.dev/internals) and LiteRT's schema.
    """

    def number(at: int, kind: str = "<I") -> int:
        return int(struct.unpack_from(kind, content, at)[0])

    def field(table: int, slot: int) -> int:
        return table + number(table - number(table, "<i") + 4 + 2 * slot, "<H")

    subgraphs = field(number(0), 2)
    first = subgraphs + number(subgraphs) + 4
    outputs = field(first + number(first), 2)
    whole = bytearray(content + bytes(-len(content) % 4))
    struct.pack_into("<I", whole, outputs, len(whole) - outputs)
    return bytes(whole + struct.pack(f"<{1 + len(indices)}i", len(indices), *indices))


def _litert_shape(detail: dict[str, Any]) -> tuple[Axis, ...]:
    signature = detail["shape_signature"]
    return tuple(None if size < 0 else int(size) for size in (signature if len(signature) else detail["shape"]))


def _scales(detail: dict[str, Any]) -> bool:
    return len(detail["quantization_parameters"]["scales"]) > 0 and np.dtype(detail["dtype"]).kind in "iu"


def _along(detail: dict[str, Any], ndim: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the scales and zero points of a tensor, to be broadcast with its values."""
    parameters = detail["quantization_parameters"]
    shape = [1] * ndim
    if len(parameters["scales"]) > 1:
        shape[parameters["quantized_dimension"]] = -1
    return parameters["scales"].reshape(shape), parameters["zero_points"].reshape(shape)


def _quantized(value: NDArray[Any], detail: dict[str, Any]) -> NDArray[Any]:
    if not _scales(detail):
        return value
    scales, zeros = _along(detail, value.ndim)
    limits = np.iinfo(detail["dtype"])
    whole: NDArray[Any] = np.clip(np.round(value / scales) + zeros, limits.min, limits.max).astype(detail["dtype"])
    return whole


def _real(value: NDArray[Any], detail: dict[str, Any]) -> NDArray[Any]:
    if not _scales(detail):
        return value
    scales, zeros = _along(detail, value.ndim)
    real: NDArray[Any] = ((value.astype(np.float32) - zeros) * scales).astype(np.float32)
    return real


def _array(value: Any) -> NDArray[Any]:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
    array: NDArray[Any] = np.asarray(value)
    return array


def _cast(value: NDArray[Any], argument: str, takes: _Input, key: str) -> NDArray[Any]:
    """Return an input as the network takes it; only real numbers may become others."""
    if not takes.takes(value.shape):
        raise ValueError(f"{argument} has the shape {value.shape}, but {key} takes {_open(takes.shape)}")
    if takes.dtype.kind in "iub" and value.dtype.kind == "f":
        raise ValueError(f"{argument} has the dtype {value.dtype}, but {key} takes {takes.dtype}")
    return np.ascontiguousarray(value, takes.dtype).reshape(value.shape)


def _choose_scores(flat: Sequence[str], outputs: Sequence[str], name: str) -> str:
    if len(flat) == 1:
        return flat[0]
    if len(outputs) == 1:
        return outputs[0]
    raise ValueError(f"scores is None, but must name one of the outputs of {name}: {_listed(outputs)}")


def _refuse(argument: str, tensor: str, name: str, names: Iterable[str], inside: bool = False) -> None:
    if inside:
        raise ValueError(
            f"{argument} names {shown(tensor)}, which is inside a branch or loop of {name}, but must be outside"
        )
    near = difflib.get_close_matches(str(tensor), names)
    hint = f", such as {_listed(near)}" if near else ""
    raise ValueError(f"{argument} names {shown(tensor)}, but must name tensors of {name}{hint}; available() lists them")


def _open(shape: tuple[Axis, ...] | None) -> str:
    if shape is None:
        return "any"
    sizes = [str(axis) if isinstance(axis, int) else "any" for axis in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _shapes(feed: Run) -> str:
    return _listed(f"{key} of shape {value.shape}" for key, value in feed.items())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _reason(error: Exception) -> str:
    """Return the first line of an error, without ONNX Runtime's number and name of it."""
    first = str(error).strip().partition("\n")[0].rstrip(".")
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", first) or type(error).__name__
