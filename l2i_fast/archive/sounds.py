"""Sound files of interpretations: of single events, or of a whole unit, joined across windows and units."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from l2i_fast.archive.settings import SoundFormat
from l2i_fast.archive.windows import Grid, Joined, Window
from l2i_fast.files import whole
from l2i_fast.recording import import_optional, writing_error

Audio = NDArray[np.float32]
_ENCODINGS = {"flac": ("FLAC", "PCM_24"), "ogg": ("OGG", "OPUS"), "wav": ("WAV", "PCM_24")}
#: FLAC's level 4 of 8, as a share: files as small as those of level 5, libsndfile's default, in 0.7 of its time.
_FLAC = 0.5
#: The rate of Opus that holds all frequencies, in Hz.
_OPUS_RATE = 48000
#: Seconds by which an event fades in and out.
_FADE = 0.01


class SoundWriter:
    """A sound file that grows and appears whole at the end, safe from a crash of the machine.

    Parameters
    ----------
    path : Path
        A missing folder is made.
    rate : int
        Hz.
    audio_format : {"flac", "ogg", "wav"}
    """

    def __init__(self, path: Path, rate: int, audio_format: SoundFormat) -> None:
        soundfile = import_optional("soundfile", f"write {path.name}")
        self._resampler: Any = None
        if audio_format == "ogg" and rate != _OPUS_RATE:
            soxr = import_optional("soxr", f"resample from {rate} to {_OPUS_RATE} Hz")
            self._resampler = soxr.ResampleStream(rate, _OPUS_RATE, 1, dtype="float32", quality="HQ")
            rate = _OPUS_RATE
        container, subtype = _ENCODINGS[audio_format]
        self._path = path
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(whole(path))
        try:
            with self._errors():
                self._file = soundfile.SoundFile(
                    os.fsencode(self._temporary), "w", rate, 1, subtype, None, container,
                    compression_level=_FLAC if container == "FLAC" else None,
                )  # fmt: skip
        except BaseException as error:
            self._stack.__exit__(type(error), error, None)
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise writing_error(self._path, error) or error from None

    def write(self, y: Audio, last: bool = False) -> None:
        """Append samples (n,); beyond +-1 they are clipped."""
        if self._resampler is not None:
            y = self._resampler.resample_chunk(y, last=last)
        with self._errors():
            self._file.write(y)

    def close(self) -> None:
        """Complete the file and give it its name."""
        if self._resampler is not None:
            self.write(np.empty(0, np.float32), last=True)
        with self._errors():
            self._file.close()
        with open(self._temporary, "rb") as file:
            os.fsync(file.fileno())
        self._stack.close()

    def abandon(self) -> None:
        """Remove what was written."""
        with suppress(RuntimeError):  # what cannot be written need not be
            self._file.close()
        error = InterruptedError()
        self._stack.__exit__(type(error), error, None)


class Piece(NamedTuple):
    """A sound file of a track.

    Attributes
    ----------
    name : str
        From the output folder on.
    start, stop : int
        First sample, and the one after the last.
    """

    name: str
    start: int
    stop: int


class Track:
    """The interpretations of one class in a unit, joined: one file for each run of windows that have one.

    A run that goes on in the next unit is cut where that begins, so that both files follow each other without a gap or
    an overlap; the other ends fade.

    Parameters
    ----------
    root, folder : Path
        The files lie in ``root / folder``; rows state their names relative to `root`.
    grid : Grid
    rate : int
        Hz.
    audio_format : {"flac", "ogg", "wav"}
    first, last : int or None
        Windows of the unit.
    begin : float
        Time of the recording's first sample in its file, in seconds.
    fades : bool
        Whether ends fade that are not cut.

    Attributes
    ----------
    pieces : list of Piece
        The complete files.
    """

    def __init__(
        self, root: Path, folder: Path, grid: Grid, rate: int, audio_format: SoundFormat, first: int, last: int | None,
        begin: float, fades: bool,
    ) -> None:  # fmt: skip
        self._root, self._folder, self._grid, self._rate = root, folder, grid, rate
        self._format: SoundFormat = audio_format
        self._first, self._last, self._begin = first, last, begin
        self._fades = fades
        self._joined: Joined | None = None
        self._writer: SoundWriter | None = None
        self._name = ""
        self._start = self._length = 0
        self.pieces: list[Piece] = []

    def add(self, window: Window, sound: Audio | None, row: dict[str, Any] | None) -> None:
        """Add the next window: its sound, None if it has none, and its row of the table, which gets the file's name."""
        if sound is None:
            self.finish()
            return
        if self._last is not None and window.number > self._last:
            if self._joined is not None and self._writer is not None:
                self._write(self._joined.add(window.start, sound))
                self._close()
            return
        continued = self._joined is not None and self._writer is None  # by the window before the unit
        if self._joined is None:
            self._joined = Joined(self._grid)
            if self._fades and window.number >= self._first:
                sound = _faded_in(sound, self._rate)
        final = self._joined.add(window.start, sound)
        if window.number < self._first:
            return
        if self._writer is None:
            seconds = self._begin + window.start / self._rate
            self._name = str(self._folder / f"{seconds:010.3f}.{self._format}")
            self._start, self._length = window.start, 0
            self._writer = SoundWriter(self._root / self._name, self._rate, self._format)
        if not continued:
            self._write(final)
        if row is not None:
            row["sound"] = self._name

    def finish(self) -> None:
        """End the run of windows, if there is one."""
        if self._joined is not None and self._writer is not None:
            rest = self._joined.finish()
            self._write(_faded_in(rest[::-1], self._rate)[::-1] if self._fades else rest)
        self._close()

    def abandon(self) -> None:
        """Remove what was written."""
        if self._writer is not None:
            self._writer.abandon()
        self._joined = self._writer = None
        for piece in self.pieces:
            (self._root / piece.name).unlink()
        self.pieces = []

    def _write(self, y: Audio) -> None:
        assert self._writer is not None
        self._writer.write(y)
        self._length += len(y)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self.pieces.append(Piece(self._name, self._start, self._start + self._length))
        self._joined = self._writer = None


def _faded_in(y: Audio, rate: int) -> Audio:
    n = min(len(y), round(_FADE * rate))
    y = y.copy()
    y[:n] *= np.sin(np.pi / 2 * (np.arange(n) + 0.5) / n, dtype=np.float32) ** 2
    return y


class Context:
    """The recording itself around a file of a track, in a file beside it.

    Parameters
    ----------
    root : Path
        Output folder.
    piece : Piece
    begin : int
        Sample of the file that the piece's samples count from.
    margin : int
        Samples before and after the piece.
    rate : int
        Hz.
    audio_format : {"flac", "ogg", "wav"}

    Attributes
    ----------
    sound, name : str
        The piece, and the file beside it, from the output folder on.
    start, stop : int
        Its first sample, and the one after its last, if the recording has them.
    """

    def __init__(self, root: Path, piece: Piece, begin: int, margin: int, rate: int, audio_format: SoundFormat) -> None:
        self._root, self._rate, self._format = root, rate, audio_format
        self.sound = piece.name
        self.name = f"{piece.name.removesuffix(audio_format)}input.{audio_format}"
        self.start, self.stop = max(0, begin + piece.start - margin), begin + piece.stop + margin
        self._left = self.stop - self.start
        self._writer: SoundWriter | None = None
        self._exists = False

    def write(self, y: Audio) -> None:
        """Append samples (n,)."""
        if self._writer is None:
            self._writer = SoundWriter(self._root / self.name, self._rate, self._format)
        self._writer.write(y)
        self._left -= len(y)
        if not self._left:
            self.finish()

    def finish(self) -> None:
        """Complete the file; the recording may end before `stop`."""
        if self._writer is not None:
            self._writer.close()
            self._writer, self._exists = None, True

    def abandon(self) -> None:
        """Remove what was written."""
        if self._writer is not None:
            self._writer.abandon()
        if self._exists:
            (self._root / self.name).unlink()
        self._writer, self._exists = None, False
