"""Front ends of networks that do not read the engine's spectrum: from samples to the network's input.

A front end is any callable from samples (B, N), a float32 tensor, to what the network takes, a tensor or a mapping of
tensors by name. Its attribute `sample_rate` states the rate of the samples in Hz. Gradients pass through those made of
torch.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from l2i_fast.arguments import integer, number, one_of, shown
from l2i_fast.recording import import_optional

#: What is taken of a spectrum's magnitudes or powers.
Scale = Literal["ln", "log10", "db", "linear"]
_SCALES = ("ln", "log10", "db", "linear")
_LAYOUTS = ("b 1 t f", "b 1 f t", "b t f", "b f t")


class Input(Protocol):
    """Interface of a front end that is not the engine's."""

    @property
    def sample_rate(self) -> int:
        """Rate of the samples in Hz."""

    def __call__(self, y: Tensor, /) -> Any:
        """Return the network's input for samples (B, N), float32."""


class Waveform:
    """The samples themselves.

    Parameters
    ----------
    sample_rate : int
        Hz.
    channels : bool
        Give (B, 1, N) instead of (B, N).
    """

    def __init__(self, sample_rate: int, channels: bool = False) -> None:
        self.sample_rate, self.channels = integer(sample_rate, "sample_rate"), channels

    def __call__(self, y: Tensor) -> Tensor:
        """Return samples (B, N) as the network takes them."""
        return y.unsqueeze(1) if self.channels else y


class MelSpectrogram(nn.Module):
    """Mel bands of a spectrum, with the settings that librosa, torchaudio and Kaldi give names to.

    Parameters
    ----------
    sample_rate : int
        Hz.
    n_fft, hop_length : int
        Samples.
    win_length : int, optional
        Samples under the periodic Hann window; `n_fft` by default.
    n_mels : int
    f_min, f_max : float
        Hz; `f_max` is half the rate by default.
    htk : bool
        HTK's mel scale instead of Slaney's.
    norm : {"slaney", None}
        Whether each band has the same area.
    power : {1, 2}
        Magnitudes or powers.
    scale : {"ln", "log10", "db", "linear"}
        Logarithm; "db" is ``10 log10`` of powers and ``20 log10`` of magnitudes.
    offset, amin : float
        The logarithm of ``max(x, amin) + offset`` is taken.
    center, pad_mode : bool, {"constant", "reflect"}
        Whether frames are centred on their time, and what lies beyond the ends then: zeros or a reflection.
    mean, std : float or arrays (n_mels,)
        Subtracted and divided by at the end.
    layout : {"b 1 t f", "b 1 f t", "b t f", "b f t"}
        Of the result: t is time, f are bands.
    """

    def __init__(
        self,
        sample_rate: int,
        n_fft: int,
        hop_length: int,
        win_length: int | None = None,
        n_mels: int = 64,
        f_min: float = 0.0,
        f_max: float | None = None,
        htk: bool = False,
        norm: Literal["slaney"] | None = "slaney",
        power: Literal[1, 2] = 2,
        scale: Scale = "ln",
        offset: float = 0.0,
        amin: float = 1e-10,
        center: bool = True,
        pad_mode: Literal["constant", "reflect"] = "constant",
        mean: Any = 0.0,
        std: Any = 1.0,
        layout: str = "b 1 t f",
    ) -> None:
        super().__init__()
        self.filters: Tensor
        self.window: Tensor
        self.sample_rate, self.n_fft = integer(sample_rate, "sample_rate"), integer(n_fft, "n_fft", 2)
        self.hop_length = integer(hop_length, "hop_length")
        win_length = n_fft if win_length is None else integer(win_length, "win_length", 1, n_fft)
        self.power, self.scale = integer(power, "power", 1, 2), one_of(scale, "scale", _SCALES)
        self.offset, self.amin = number(offset, "offset", 0), number(amin, "amin", 0)
        self.center, self.layout = center, one_of(layout, "layout", _LAYOUTS)
        self.pad_mode = one_of(pad_mode, "pad_mode", ("constant", "reflect"))
        librosa = import_optional("librosa", "make mel filters")
        filters = librosa.filters.mel(
            sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max, htk=htk, norm=norm
        )
        self.register_buffer("filters", torch.from_numpy(filters.T.astype(np.float32)), persistent=False)
        self.register_buffer("window", torch.hann_window(win_length), persistent=False)
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float32), persistent=False)

    def forward(self, y: Tensor) -> Tensor:
        """Return the bands of samples (B, N)."""
        frame = self.n_fft, self.hop_length, len(self.window), self.window
        X = torch.stft(y, *frame, self.center, self.pad_mode, return_complex=True)
        A = X.real.square() + X.imag.square()
        if self.power == 1:
            A = A.clamp(min=1e-30).sqrt()
        x: Any = A.transpose(1, 2) @ self.filters
        if self.scale != "linear":
            x = x.clamp(min=self.amin) + self.offset
            x = x.log() if self.scale == "ln" else x.log10()
            if self.scale == "db":
                x = x * (20 / self.power)
        x = (x - self.mean) / self.std
        if self.layout.endswith("f t"):
            x = x.transpose(1, 2)
        return x.unsqueeze(1) if "1" in self.layout else x  # type: ignore[no-any-return]


class MFCC(nn.Module):
    """Mel-frequency cepstral coefficients: the discrete cosine transform (type 2, orthonormal) of mel bands in dB.

    Parameters
    ----------
    n_mfcc : int
        Coefficients.
    layout : {"b 1 t f", "b 1 f t", "b t f", "b f t"}
        Of the result: f are coefficients.
    **bands
        Those of `MelSpectrogram`; ``scale="db"`` by default.
    """

    def __init__(self, n_mfcc: int = 20, layout: str = "b 1 t f", **bands: Any) -> None:
        super().__init__()
        self.dct: Tensor
        self.bands = MelSpectrogram(**{"scale": "db"} | bands, layout="b t f")
        self.sample_rate, self.layout = self.bands.sample_rate, one_of(layout, "layout", _LAYOUTS)
        n = self.bands.filters.shape[1]
        n_mfcc = integer(n_mfcc, "n_mfcc", 1, n)
        k, j = np.arange(n_mfcc)[:, None], np.arange(n)[None]
        dct = np.cos(np.pi * k * (2 * j + 1) / (2 * n)) * np.where(k, np.sqrt(2 / n), np.sqrt(1 / n))
        self.register_buffer("dct", torch.from_numpy(dct.T.astype(np.float32)), persistent=False)

    def forward(self, y: Tensor) -> Tensor:
        """Return the coefficients of samples (B, N)."""
        x: Tensor = self.bands(y) @ self.dct
        if self.layout.endswith("f t"):
            x = x.transpose(1, 2)
        return x.unsqueeze(1) if "1" in self.layout else x


class Extractor:
    """A feature extractor of Hugging Face transformers, such as that of AST or wav2vec 2.0.

    Parameters
    ----------
    extractor
        Called as ``extractor(list of arrays, sampling_rate=..., return_tensors="pt")``.
    **settings
        Passed on with every call, such as ``padding=True``.
    """

    def __init__(self, extractor: Any, **settings: Any) -> None:
        if not hasattr(extractor, "sampling_rate"):
            raise TypeError(f"extractor is {shown(extractor)}, but a feature extractor of transformers is needed")
        self.extractor, self.settings = extractor, settings
        self.sample_rate = int(extractor.sampling_rate)

    def __call__(self, y: Tensor) -> dict[str, Tensor]:
        """Return the tensors, by name, that the extractor makes of samples (B, N)."""
        found = self.extractor(
            list(y.cpu().numpy()), sampling_rate=self.sample_rate, return_tensors="pt", **self.settings
        )
        return {name: x.to(y.device) for name, x in found.items() if isinstance(x, Tensor)}
