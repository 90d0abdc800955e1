"""Silero VAD, a detector of speech, from the package silero-vad (MIT License).

The package has the network in several files. Most carry the state of its LSTM from call to call, and choose between the
layers of two sample rates inside a branch, from which nothing can be returned. The one that is read here
(``silero_vad_16k_sequence.onnx``) has the layers of 16 kHz alone and takes all frames of a recording at once.
"""

from __future__ import annotations

import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from l2i_fast.adapters.parts import Parts, installed_file
from l2i_fast.networks.sessions import OnnxSession

_FRAME, _CONTEXT = 512, 64
#: Layers by the names of their modules, and the tensors of the file.
_LAYERS = {
    "encoder.0": "/Relu_output_0",
    "encoder.1": "/Relu_1_output_0",
    "encoder.2": "/Relu_2_output_0",
    "encoder.3": "/Relu_3_output_0",
    "recurrent": "/Relu_4_output_0",
}


class SileroVad:
    """Silero VAD for 16 kHz.

    Parameters
    ----------
    weights : path, optional
        The file. Default: that of the installed package silero-vad, whose code is not imported.
    pooling : str
        How frames become the score of a recording: "max", or "mean".

    Attributes
    ----------
    layers : tuple of str
        Four convolutions, ``encoder.0`` to ``encoder.3``, with 4, 2, 1 and 1 columns for a frame of 32 ms, and
        ``recurrent``, the output of the LSTM behind ReLU.
    fingerprint : str
        Digest of the file's bytes.

    Raises
    ------
    ValueError
        A file that does not hold this network, or an unknown `pooling`.
    ImportError
        Packages are missing: silero-vad, onnx or onnxruntime.
    """

    layers = tuple(_LAYERS)

    def __init__(self, weights: str | os.PathLike[str] | None = None, pooling: str = "max") -> None:
        if pooling not in ("max", "mean"):
            raise ValueError(f"pooling is {pooling!r}, but must be 'max' or 'mean'")
        name = "data/silero_vad_16k_sequence.onnx"
        state = np.zeros((1, 1, 128), np.float32)
        self._session = OnnxSession(
            weights or installed_file("silero_vad", name, "detect speech"),
            list(_LAYERS.values()),
            scores="speech_probs",
            inputs={"h": state, "c": state},
        )
        self._pooling = pooling
        self.fingerprint = self._session.fingerprint

    def __call__(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the probability of speech and the layers' values.

        Parameters
        ----------
        x : Tensor (B, n, 576), float32
            Frames, as `SileroFrames` returns them. The state is carried from frame to frame, and begins anew with each
            of the B items.

        Returns
        -------
        scores : Tensor (B, 1), float32
        values : dict of Tensors (B, channels, columns), float32
        """
        frames, values = self.run(x)
        pooled = frames.amax(1) if self._pooling == "max" else frames.mean(1)
        return pooled[:, None], values

    def run(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the probability of speech in each frame (B, n), and the layers' values as `__call__` does."""
        items = [self._session(item) for item in x]
        values = {name: torch.stack([_joined(maps[i]) for _, maps in items]) for i, name in enumerate(self.layers)}
        return torch.stack([scores[:, 0] for scores, _ in items]), values


class SileroFrames:
    """The front end of Silero VAD: frames of 512 samples, each behind the 64 samples before it."""

    #: Rate of the samples in Hz.
    sample_rate = 16000

    def __call__(self, samples: Tensor) -> Tensor:
        """Return frames (B, n, 576) of samples (B, N); silence stands before the first and completes the last."""
        end = -samples.shape[-1] % _FRAME if samples.shape[-1] else _FRAME
        return F.pad(samples.float(), (_CONTEXT, end)).unfold(-1, _CONTEXT + _FRAME, _FRAME)


def silero(weights: str | os.PathLike[str] | None = None, pooling: str = "max") -> Parts:
    """Return Silero VAD, ready to be explained: one class, "speech".

    It reads recordings as a whole, since its state is carried from frame to frame.

    Parameters
    ----------
    weights, pooling
        As for `SileroVad`.
    """
    return Parts(
        network=SileroVad(weights, pooling),
        classes=("speech",),
        front_end=SileroFrames(),
        layers=dict.fromkeys(("encoder.1", "encoder.3", "recurrent"), "b c t"),
        window=None,
        hop=None,
        multilabel=True,
        output="probabilities",
    )


def _joined(values: Tensor) -> Tensor:
    """Return the values of n frames as (channels, columns): those of the encoder are (n, channels, columns of one)."""
    if values.shape[1] == 1:  # those of the LSTM are (n, 1, channels)
        values = values.transpose(1, 2)
    return values.permute(1, 0, 2).flatten(1)
