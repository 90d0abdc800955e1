"""aiSFX: embeddings of sound effects (Ma and Lerch, ISMIR 2022), with the weights in the package aisfx (CC BY 4.0).

The body is a convolutional network of log-mel spectrograms, as in the DCASE cross-task baseline (Kong et al., 2018,
arXiv:1808.00773). The heads in the published file know only numbers of classes, not names, and are left out.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2i_fast.adapters.mel import mel_weights
from l2i_fast.adapters.parts import Parts, installed_file

_CHANNELS = (64, 128, 256, 512)
_FRAME, _HOP, _BLOCK, _MELS = 2048, 1024, 100, 96
#: The largest value of the training set's spectrograms, by which inputs are divided.
_LARGEST = 9.457798957824707
_RATE = 44100
_LEFT_OUT = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")


class AiSfx(nn.Module):
    """The body of aiSFX, and a head.

    Four blocks of two 3x3 convolutions with batch normalisation and ReLU; 2x2 max pooling behind each but the last; the
    mean over frequency and the maximum over time.

    Parameters
    ----------
    head : nn.Module, optional
        From embeddings (B, 512) to logits (B, C). Without one, the network returns embeddings.

    Notes
    -----
    The modules ``block1`` to ``block4`` return the maps before pooling: 64, 128, 256 and 512 channels.
    """

    def __init__(self, head: nn.Module | None = None) -> None:
        super().__init__()
        previous = 1
        for i, channels in enumerate(_CHANNELS, 1):
            modules: list[nn.Module] = []
            for n in (previous, channels):
                modules += [
                    nn.Conv2d(n, channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                ]
            self.add_module(f"block{i}", nn.Sequential(*modules))
            previous = channels
        self.float()  # whatever the default dtype is
        self.head = head if head is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, C), or embeddings (B, 512), of spectrograms `x` (B, 1, T, 96), T at least 8."""
        logits: Tensor = self.head(self.embed(x))
        return logits

    def embed(self, x: Tensor) -> Tensor:
        """Return embeddings (B, 512) of spectrograms `x` (B, 1, T, 96), T at least 8."""
        for i in range(1, 5):
            x = self.get_submodule(f"block{i}")(x if i == 1 else F.max_pool2d(x, 2))
        return x.mean(3).amax(2)

    def load_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Read the weights of the body from the published file.

        Raises
        ------
        ValueError
            A file that is damaged, or that holds anything else.
        """
        try:
            # The file's counts of classes are NumPy scalars. They are not needed, so nothing of NumPy is called.
            with torch.serialization.safe_globals([(_Left, name) for name in _LEFT_OUT]):
                weights, _ = torch.load(path, map_location="cpu", weights_only=True)
            body = {name: weights[_published(name)] for name in self.state_dict() if name.startswith("block")}
            self.load_state_dict(body, strict=False)
        except OSError:
            raise
        except pickle.UnpicklingError as error:
            raise ValueError(f"{path} cannot be read as the weights of aiSFX: it is damaged or holds more") from error
        except Exception as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise ValueError(f"{path} cannot be read as the weights of aiSFX: {reason}") from error


class AiSfxFrames:
    """The front end of aiSFX: log-mel spectrograms at 44.1 kHz.

    Frames of 2048 samples every 1024 under a symmetric Hann window, their power spectrum, 96 filters with a sum of 1,
    and ``log10(1 + 10000 x)``, divided by the largest value of the training set. The published code computes the same
    with Essentia, except that its first frame is centred on the first sample; here it begins with it.
    """

    #: Rate of the samples in Hz.
    sample_rate = _RATE

    def __init__(self) -> None:
        self._window = torch.hann_window(_FRAME, periodic=False, dtype=torch.float64).float()
        mel = mel_weights(_MELS, 0, _RATE / 2, _RATE, _FRAME)
        self._mel = mel / mel.sum(0)

    def __call__(self, samples: Tensor) -> Tensor:
        """Return spectrograms (B, 1, T, 96) of samples (B, N); T is at least 100, with silence behind short samples."""
        shortest = (_BLOCK - 1) * _HOP + _FRAME
        samples = F.pad(samples.float(), (0, max(0, shortest - samples.shape[-1])))
        frames = samples.unfold(-1, _FRAME, _HOP) * self._window.to(samples.device)
        power = torch.fft.rfft(frames).abs() ** 2
        return (torch.log10(1 + 1e4 * (power @ self._mel.to(samples.device))) / _LARGEST).unsqueeze(1)


def aisfx(
    head: nn.Module | None = None,
    classes: Sequence[str] | None = None,
    *,
    multilabel: bool = False,
    weights: str | os.PathLike[str] | None = None,
) -> Parts:
    """Return aiSFX with published weights, under a head of your own.

    Parameters
    ----------
    head : nn.Module, optional
        From embeddings (B, 512) to logits (B, C), such as a linear layer. Without one, the scores are the embedding's
        512 values, which are not those of classes: a body to train a head on.
    classes : sequence of str, optional
        Names of the C classes; needed with a head.
    multilabel : bool
        Whether several classes may hold at once.
    weights : path, optional
        The published ``checkpoint.pth``. Default: that of the installed package aisfx, whose code is not imported.

    Raises
    ------
    ImportError
        `weights` is None and aisfx is not installed (``pip install --no-deps aisfx``).
    ValueError
        Classes without a head, or a head without; or a file that is damaged or that holds anything else.
    """
    if (head is None) != (classes is None):
        given, other = ("head", "classes") if classes is None else ("classes", "head")
        raise ValueError(f"{given} is given, but must come with {other}")
    network = AiSfx(head)
    network.load_checkpoint(weights or installed_file("aisfx", "models/checkpoint.pth", "read aiSFX's weights"))
    return Parts(
        network=network.eval(),
        classes=tuple(classes or (f"feature {i}" for i in range(_CHANNELS[-1]))),
        front_end=AiSfxFrames(),
        layers=dict.fromkeys(("block2", "block3", "block4"), "b c t f"),
        window=((_BLOCK - 1) * _HOP + _FRAME) / _RATE,
        hop=_BLOCK // 2 * _HOP / _RATE,
        multilabel=multilabel if head is not None else True,
        output="logits",
    )


class _Left:
    """Stands for a value of a checkpoint that is left out."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def _published(name: str) -> str:
    """Return the published name of a weight: block1.3.weight is that of the block's second convolution."""
    block, index, rest = name.split(".")
    kind = ("conv", "bn")[int(index) % 3]
    return f"embedding_net.conv_{block}.{kind}{int(index) // 3 + 1}.{rest}"
