"""Silero VAD from its file that takes all frames at once computes what its other files compute frame by frame."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from l2i_fast.adapters.parts import installed_file
from l2i_fast.adapters.silero import SileroFrames, SileroVad, silero
from l2i_fast.audio import read_audio
from l2i_fast.data import Dataset

from ..helpers import refused, relative


def test_frames_stand_behind_their_context(rng: np.random.Generator) -> None:
    samples = torch.from_numpy(rng.standard_normal((2, 1300)).astype(np.float32))
    frames = SileroFrames()(samples)
    assert frames.shape == (2, 3, 576)
    assert torch.equal(frames[:, 0, 64:], samples[:, :512])
    assert not frames[:, 0, :64].any()
    assert torch.equal(frames[:, 1], samples[:, 448:1024])
    assert torch.equal(frames[:, 2, :340], samples[:, 960:])
    assert not frames[:, 2, 340:].any()
    assert SileroFrames()(samples[:, :1024]).shape == (2, 2, 576)
    assert SileroFrames()(samples[:, :0]).shape == (2, 1, 576)


def test_pooling_is_checked() -> None:
    with refused(ValueError, "pooling is 'sum', but must be 'max' or 'mean'"):
        SileroVad(pooling="sum")


# ---- the published files ----


def published(name: str) -> Path:
    try:
        return installed_file("silero_vad", f"data/{name}", "test")
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def network() -> SileroVad:
    published("silero_vad_16k_sequence.onnx")
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    return SileroVad()


@pytest.fixture(scope="module")
def voices(esc10: Dataset) -> Tensor:
    """Recordings (3, 48000) of which the network is sometimes sure."""
    wanted = [clip for clip in esc10.clips if esc10.classes[clip.labels[0]] in ("crying_baby", "sneezing", "rooster")]
    return torch.stack([torch.from_numpy(np.array(read_audio(clip.path, 16000)[0][:48000])) for clip in wanted[:3]])


def in_torch(weights: dict[str, Tensor], frames: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The network for frames (n, 576) of one recording, frame by frame."""
    h = c = torch.zeros(1, 128)
    scores, columns = [], []
    for frame in frames:
        x = F.conv1d(F.pad(frame[None, None], (0, 64), "reflect"), weights["stft.forward_basis_buffer"], stride=128)
        x, found = torch.hypot(*x.split(129, 1)), []
        for i, stride in enumerate((1, 2, 2, 1)):
            w, b = (weights[f"encoder.{i}.reparam_conv.{name}"] for name in ("weight", "bias"))
            x = F.relu(F.conv1d(x, w, b, stride, 1))
            found.append(x[0])
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        h, c = torch.lstm_cell(x[..., 0], (h, c), *(weights[f"decoder.rnn.{name}"] for name in names))
        found.append(F.relu(h).T)
        y = F.conv1d(F.relu(h)[..., None], weights["decoder.decoder.2.weight"], weights["decoder.decoder.2.bias"])
        scores.append(y.sigmoid().flatten())
        columns.append(found)
    return torch.cat(scores), [torch.cat(maps, 1) for maps in zip(*columns, strict=True)]


def test_as_its_weights_in_torch(network: SileroVad, voices: Tensor) -> None:
    # Those in silero_vad_16k.safetensors are of another version.
    tensors = pytest.importorskip("onnx").load(published("silero_vad_16k_op15.onnx")).graph.initializer
    array = pytest.importorskip("onnx.numpy_helper").to_array
    weights = {tensor.name.removeprefix("model."): torch.from_numpy(array(tensor).copy()) for tensor in tensors}
    x = SileroFrames()(voices)
    scores, values = network.run(x)
    for i, item in enumerate(x):
        expected, maps = in_torch(weights, item)
        assert (scores[i] - expected).abs().max() < 1e-4
        for name, value in zip(network.layers, maps, strict=True):
            assert relative(values[name][i], value) < 1e-4, name


def test_as_its_file_for_streams(network: SileroVad, voices: Tensor) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.fspath(published("silero_vad.onnx")), options)
    x = SileroFrames()(voices)
    state: Any = np.zeros((2, len(x), 128), np.float32)
    expected = []
    for t in range(x.shape[1]):
        y, state = session.run(None, {"input": x[:, t].numpy(), "state": state, "sr": np.array(16000)})
        expected.append(y[:, 0])
    scores, _ = network.run(x)
    assert scores.max() > 0.5
    assert np.abs(scores.numpy() - np.stack(expected, 1)).max() < 1e-4


def test_parts(network: SileroVad, voices: Tensor) -> None:
    parts = silero(pooling="mean")
    scores, values = parts.network(parts.front_end(voices))
    frames, _ = network.run(parts.front_end(voices))
    assert torch.equal(scores, frames.mean(1, keepdim=True))
    assert torch.equal(network(parts.front_end(voices))[0], frames.amax(1, keepdim=True))
    n = frames.shape[1]
    assert {name: tuple(values[name].shape) for name in parts.layers} == {
        "encoder.1": (3, 64, 2 * n),
        "encoder.3": (3, 128, n),
        "recurrent": (3, 128, n),
    }
    assert scores.shape == (3, len(parts.classes))
    assert silero().network(parts.front_end(torch.zeros(1, 16000)))[0].item() < 0.1
