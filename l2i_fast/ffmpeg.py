"""Sound in containers that libsndfile does not read, such as MPEG-4 and video, decoded by FFmpeg through PyAV.

PyAV hands out the samples one packet after another. torchcodec takes them by time, and where a container's times are
rounded, as in Matroska, its blocks repeat samples.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from l2i_fast.forks import importing

#: Endings of the files that FFmpeg is asked to read.
ENDINGS = frozenset(
    ("3gp", "aac", "ac3", "amr", "ape", "avi", "dsf", "m4a", "m4b", "m4v", "mka", "mkv", "mov", "mp4", "mpg", "mts",
     "tta", "webm", "wma", "wmv", "wv")
)  # fmt: skip
#: More frames than any file has: how libsndfile says that their number is unknown.
_UNKNOWN = (1 << 63) - 1


class FFmpegDecoder:
    """The first sound track of a file, with the attributes and methods of `soundfile.SoundFile` that reading needs.

    Parameters
    ----------
    file : binary file
        Open and seekable; it stays open as long as the decoder.
    name : str
        Of the file, for errors.

    Raises
    ------
    RuntimeError
        FFmpeg finds no sound in it.
    ImportError
        PyAV is not installed.
    """

    format = subtype = extra_info = ""
    frames = _UNKNOWN

    def __init__(self, file: BinaryIO, name: str) -> None:
        try:
            with importing:
                self._av: Any = importlib.import_module("av")
        except ImportError as error:
            raise ImportError(f"PyAV is needed to read {name}; install it with: pip install av") from error
        try:
            # A text can name other files and addresses, whatever its ending; none is opened.
            self._container = self._av.open(file, options={"protocol_whitelist": "none"})
        except self._av.FFmpegError as error:
            raise RuntimeError(error.strerror) from error
        if not self._container.streams.audio:
            self._container.close()
            raise RuntimeError("it has no sound track")
        stream = self._container.streams.audio[0]
        self.samplerate, self.channels = stream.rate, stream.channels
        self._blocks = self._decode(stream)
        self._held = np.empty((0, self.channels), np.float32)
        self._position = 0
        self._damage: RuntimeError | None = None

    def _decode(self, stream: Any) -> Iterator[NDArray[np.float32]]:
        """Yield the samples of each frame, (n, channels)."""
        resampler = self._av.AudioResampler("fltp", stream.layout, stream.rate)
        try:
            for frame in self._container.decode(stream):
                frame.pts = None  # so that the resampler fills no gaps between times
                for part in resampler.resample(frame):
                    yield part.to_ndarray().T
            for part in resampler.resample(None):
                yield part.to_ndarray().T
        except (self._av.FFmpegError, ValueError) as error:
            raise RuntimeError(getattr(error, "strerror", None) or str(error)) from error

    def _next(self) -> NDArray[np.float32]:
        """Return the samples of the next frame that has any; none at the end, and at damage, which is noted."""
        try:
            return next((block for block in self._blocks if len(block)), self._held)
        except RuntimeError as error:
            self._damage = error
            return self._held

    def seekable(self) -> bool:
        """Return whether places can be sought: they cannot."""
        return False

    def tell(self) -> int:
        """Return the number of samples given so far."""
        return self._position

    def buffer_read_into(self, buffer: NDArray[np.float32], dtype: str) -> int:
        """Fill `buffer`, (n, channels), as far as the sound goes; return the number of samples.

        Raises
        ------
        RuntimeError
            The next packet is damaged.
        """
        filled = 0
        while filled < len(buffer):
            if not len(self._held):
                self._held = self._next()
            if not len(self._held):
                break
            part = self._held[: len(buffer) - filled]
            buffer[filled : filled + len(part)] = part
            self._held = self._held[len(part) :]
            filled += len(part)
        if self._damage is not None and not filled:
            raise self._damage
        self._position += filled
        return filled

    def close(self) -> None:
        """Close the container; the file stays open."""
        self._container.close()
