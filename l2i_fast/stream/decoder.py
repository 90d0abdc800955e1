"""`decode` of a live signal, hop by hop: the audio path of a stream, without networks."""

from __future__ import annotations

from typing import Any

import numpy as np

from l2i_fast.arguments import flag, integer, positive_float32
from l2i_fast.arrays import LONGEST, Array, Float32, from_pcm, to_float32, to_numpy
from l2i_fast.backends.dispatch import serving
from l2i_fast.backends.native import LOUDEST, StreamEngines, in_range, takes_frames
from l2i_fast.ops.framing import Frame, Window
from l2i_fast.ops.soft_mask import check_mask
from l2i_fast.settings import Domain
from l2i_fast.stream.unique import Unique


class StreamDecoder(Unique):
    """Decode a live signal, in blocks of any size, to the audio of its weighted components.

    The output is `decode` of the whole signal, `latency` samples later. The activations of each frame follow from a few
    multiplicative updates with the fixed dictionary, ``h <- h (W' v) / (W' W h)`` for ``v = log(1 + |X|)`` (Euclidean
    loss; Lee and Seung, 2001), which start from those of the frame before; no component starts below 1e-3 of ``W' v``,
    so that one that has faded out can return. Alternatively they start from `start`, or are given.

    The answer depends neither on the blocks nor on the time of a call: the same signal gives the same bits. The cost of
    a hop does not grow with the signal, and the native part of a call neither allocates nor waits.

    Parameters
    ----------
    W : array, shape (F, K)
        Dictionary, non-negative; frames have ``n_fft = 2 (F - 1)`` samples, a power of two from 32 to 65536.
    hop_length : int
        Samples between frames; None is a quarter of the window. At most `n_fft`.
    n_iter : int
        Updates of the activations of each frame, at least 1.
    domain : {"log", "magnitude", "wiener"}
        How the mask acts on the magnitude, as in `soft_mask`.
    eps : float
        Added to the mask's denominator.
    win_length, window
        As in `stft`.

    Raises
    ------
    ValueError
        For a dictionary that is negative, not finite, of another shape, or whose largest entry lies outside 1e-9 to
        1e9; for a setting out of range.
    """

    def __init__(
        self,
        W: Array,
        hop_length: int | None = 512,
        n_iter: int = 10,
        domain: Domain = "log",
        eps: float = 1e-6,
        win_length: int | None = None,
        window: Window = "hann",
    ) -> None:
        self._engine = stream_engines(W, hop_length, n_iter, domain, eps, win_length, window).stream()
        self._weights = np.ones_like(self._engine.activations())
        self._scale = 1.0
        self._start: Float32 | None = None

    @property
    def latency(self) -> int:
        """Samples by which the output lags behind the input: n_fft."""
        return self._engine.latency

    @property
    def hops(self) -> int:
        """Frames analysed since the signal began."""
        return self._engine.hops

    @property
    def activations(self) -> Float32:
        """Activations h (K,) of the newest frame."""
        return self._engine.activations()

    @property
    def weights(self) -> Float32:
        """Weights of the components (K,), in [0, 1]; initially all ones.

        New weights fade in over four hops; before the first frame is analysed they take effect at once.
        """
        return self._weights.copy()

    @weights.setter
    def weights(self, weights: Array) -> None:
        values = to_float32(weights, "weights")
        if values.shape != self._weights.shape:
            raise ValueError(f"weights has shape {values.shape}, but {self._weights.shape} is needed")
        if not in_range(values, low=0, high=1):
            raise ValueError("weights holds numbers outside [0, 1] or NaN, but all must lie in [0, 1]")
        self._publish(values, self._scale, self._start)

    @property
    def scale(self) -> float:
        """Divisor of magnitudes before the logarithm, initially 1; it fades as the weights do."""
        return self._scale

    @scale.setter
    def scale(self, scale: float) -> None:
        self._publish(self._weights, positive_float32(scale, "scale"), self._start)

    @property
    def start(self) -> Float32 | None:
        """Activations (K,) from which the updates of each frame start; None, the default: those of the frame before.

        Different combinations of components can give the same frame, and a few updates stay near their start. It fades
        as the weights do.
        """
        return None if self._start is None else self._start.copy()

    @start.setter
    def start(self, start: Array | None) -> None:
        values = None if start is None else self._activations(to_float32(start, "start")[..., None], 1, "start")[:, 0]
        self._publish(self._weights, self._scale, values)

    def _publish(self, weights: Float32, scale: float, start: Float32 | None) -> None:
        weights, start = weights.copy(), None if start is None else start.copy()
        self._engine.publish(weights, scale, start)
        self._weights, self._scale, self._start = weights, scale, start

    def frames_in(self, n: int, last: bool = False) -> int:
        """Return the number of frames that `n` more samples complete, or, if they are the last, of all frames left."""
        return self._engine.frames_in(integer(n, "n", 0, LONGEST), flag(last, "last"))

    def push(self, block: Array, H: Array | None = None, last: bool = False) -> Float32:
        """Take a block of the signal and return as many samples.

        Parameters
        ----------
        block : array, shape (m,)
            Samples; floating, or integer PCM, which is scaled to [-1, 1). Any number of them, also none.
        H : array, shape (K, n), optional
            Activations of the ``n = frames_in(m, last)`` frames that the block completes, instead of updates.
        last : bool
            The signal ends with this block: the remaining `latency` samples are returned, too, and the next push
            begins a new signal.

        Returns
        -------
        y : float32, shape (m,), or (m + latency,) with `last`
            The first `latency` samples of a signal are zeros.

        Raises
        ------
        TypeError, ValueError
            For samples of another dtype or shape, NaN, infinity, or beyond 1e30; for activations that do not fit. The
            block is then ignored, and the stream remains usable.
        """
        # The engine returns None for a block that has to be converted first.
        if last is not False:
            last = flag(last, "last")
        if not last and (y := self._engine.push(block, -1, H)) is not None:
            plain: Float32 = y
            return plain
        samples = mono(block)
        n, last_n = self.frames_in(samples.size), self.frames_in(samples.size, last)
        rows = None if H is None else self._activations(H, last_n)
        out: Float32 = self._engine.push(samples, -1, None if rows is None else rows[:, :n])
        return np.concatenate((out, self._engine.finish(-1, None if rows is None else rows[:, n:]))) if last else out

    def flush(self) -> Float32:
        """End the signal and return the remaining `latency` samples. The next push begins a new signal."""
        return self._engine.finish()

    def reset(self) -> None:
        """Discard the signal and begin a new one; weights and scale stay."""
        self._engine.reset()

    def _activations(self, H: Array, n: int, name: str = "H") -> Float32:
        values: Float32 = to_float32(H, name)
        shape = (self._weights.size, n)
        if values.shape != shape:
            raise ValueError(f"{name} has shape {values.shape}, but (K, n) = {shape} is needed, n being frames_in(...)")
        if not in_range(values, low=0):
            raise ValueError(f"{name} holds negative numbers, NaN or infinity, but must be non-negative and finite")
        if not in_range(values, low=0, high=1e25):
            raise ValueError(f"{name} holds numbers above 1e+25, but must hold at most that")
        return values


def stream_engines(
    W: Array,
    hop_length: int | None,
    n_iter: int,
    domain: str,
    eps: float = 1e-6,
    win_length: int | None = None,
    window: Window = "hann",
    filters: Float32 | None = None,
    lift: float = 0.0,
) -> StreamEngines:
    """Return the factory of engines for the settings of `StreamDecoder`, mel `filters` (F, n_mels) and a `lift`.

    The lift is the share of W' v that is added to a published start before its updates.
    """
    values, frame = stream_settings(W, hop_length, n_iter, domain, eps, win_length, window)
    engines: StreamEngines = serving("StreamEngines", None)(
        values, frame.window, frame.hop, n_iter, domain, eps, filters, lift
    )
    return engines


def stream_settings(
    W: Array, hop_length: int | None, n_iter: int, domain: str, eps: float, win_length: int | None, window: Window
) -> tuple[Float32, Frame]:
    """Check the settings of `StreamDecoder`; return the dictionary, and frame length, hop and window."""
    values: Float32 = to_float32(W, "W")
    if values.ndim != 2 or values.shape[1] == 0 or not takes_frames(2 * (values.shape[0] - 1)):
        raise ValueError(f"W has shape {values.shape}, but (F, K) with F - 1 a power of two from 16 to 32768 is needed")
    if not in_range(values, low=0):
        raise ValueError("W holds negative numbers, NaN or infinity, but must be non-negative and finite")
    peak = float(values.max())
    if peak and not 1e-9 <= peak <= 1e9:  # products of its entries would leave float32
        raise ValueError(f"W has a largest entry of {peak:g}, but one from 1e-09 to 1e+09 is needed")
    frame = Frame(2 * (values.shape[0] - 1), hop_length, win_length, window)
    if frame.hop > frame.window.size:
        raise ValueError(f"hop_length is {frame.hop}, but must be at most the {frame.window.size} samples of a frame")
    check_mask(domain, eps)
    integer(n_iter, "n_iter")
    return values, frame


def mono(block: Any, channels: int = 1) -> Float32:
    """Return a block as contiguous samples (m,), the mean of its channels; the engine checks for NaN and infinity.

    Raises
    ------
    TypeError
        For a dtype that is neither floating nor integer PCM.
    ValueError
        For another shape than (m,), where there is one channel, or (m, channels).
    """
    array = to_numpy(block, "block")
    if array.ndim == 1 and channels == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != channels:
        shapes = f"(m, {channels})" + " or (m,)" * (channels == 1)
        raise ValueError(f"block has shape {array.shape}, but {shapes} is needed")
    array = from_pcm(array, "block")
    with np.errstate(all="ignore"):  # what float32 cannot hold is refused as infinite
        array = array[:, 0] if channels == 1 else array.mean(axis=1, dtype=np.result_type(array, np.float32))
        return np.require(array, np.float32, ["C", "A"])


def require_finite(samples: Float32) -> None:
    """Check that a block holds neither NaN nor infinity, nor samples too loud for a spectrum."""
    if not in_range(samples, -LOUDEST, LOUDEST):
        first = int(np.argmin(np.abs(samples) <= LOUDEST))
        held, needed = "NaN or infinity", "finite samples"
        if np.isfinite(samples[first]):
            held, needed = f"samples beyond {LOUDEST:g}", f"samples from {-LOUDEST:g} to {LOUDEST:g}"
        raise ValueError(f"block holds {held} (first at sample {first}), but {needed} are needed: it is ignored")
