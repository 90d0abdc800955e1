"""Recordings in files, pipes and object stores, read to their end whatever their headers state.

libsndfile decodes them, by way of soundfile. It believes the sizes in a header and needs files that can seek; this
module makes up for both. What libsndfile does not know is left to FFmpeg.
"""

from __future__ import annotations

import errno
import importlib
import math
import os
import re
import shutil
import socket
import stat
import struct
import tempfile
import threading
import warnings
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, Self

import numpy as np

from l2i_fast.arrays import Float32
from l2i_fast.ffmpeg import ENDINGS as FFMPEG_ENDINGS
from l2i_fast.ffmpeg import FFmpegDecoder
from l2i_fast.files import as_path
from l2i_fast.forks import importing
from l2i_fast.stderr import discard_c_stderr
from l2i_fast.stores import RangedFile, is_url

#: Limits of sample rates in Hz: see `check_rate`.
MIN_RATE, MAX_RATE = 100, 10_000_000
#: Sizes from which a header means "unknown", in bytes and in frames: programs that write to a pipe use such values.
_UNKNOWN_BYTES, _UNKNOWN_FRAMES = 0x7F000000, 1 << 60
#: Bytes with the whole of a Xing header, and more bytes than an Ogg page has.
_XING_ROOM, _PAGE_ROOM = 200, 1 << 17
#: Frames of MP3 decoded at a time: if libmpg123 finds an error, libsndfile drops all frames of the call.
_MP3_FRAMES = 1152
#: Free bytes below which a disk counts as full.
_FULL = 1 << 20
#: Frames to read at a time on the way to a place that cannot be sought.
_SKIP = 1 << 16


class RecordingFile:
    """A recording that libsndfile or FFmpeg reads, block by block.

    It ends where no more samples can be decoded. One `RuntimeWarning` reports if its header states more samples, or if
    it is damaged there.

    Parameters
    ----------
    path : path-like
        A file; a pipe, which is first copied to a temporary file; or a URL that fsspec knows, which is read by ranges,
        unless it is MP3 or Ogg, which are copied, too.

    Attributes
    ----------
    name : str
        The path.
    rate : int
        Hz.
    channels : int
    frames : int or None
        Samples of each channel that the header states; None if it leaves them open.
    complete : bool
        False after the recording has ended too early.
    seeks : bool
        Whether `seek` reaches every place at once, and what is read there equals what is read on the way.

    Raises
    ------
    FileNotFoundError, OSError
        If the file does not exist, or cannot be read, for example without permission.
    ValueError
        If it is not audio, or `check_rate` refuses its rate.
    ImportError
        If soundfile is not installed, or what else this file needs.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not is_url(path):
            path = as_path("source", path)
        self.name = str(path)
        self.complete = True
        self._position = 0
        self._ended = False
        soundfile = import_optional("soundfile", f"read {os.path.basename(self.name)}")
        with ExitStack() as stack:
            file, handle = _open(path)
            stack.enter_context(file)
            self._callbacks = handle if isinstance(handle, _Callbacks) else None
            try:
                with discard_c_stderr():
                    decoder = _decoder(soundfile, file, handle, self.name)
                self._is_cut = decoder.format == "OGG" and not _has_last_page(file)
            except (RuntimeError, TypeError) as error:  # TypeError: headerless formats
                self._raise_lost()
                raise ValueError(f"{path} cannot be read as audio: {soundfile_reason(error)}") from error
            # libsndfile opens names and descriptors itself.
            keeps = self._callbacks is not None or isinstance(decoder, FFmpegDecoder)
            self._stack = stack.pop_all() if keeps else ExitStack()
        self._stack.callback(decoder.close)
        self.rate = check_rate(f"the rate of {path}", decoder.samplerate)
        self.channels = int(decoder.channels)
        self.frames = _stated_frames(decoder)
        self._is_mp3 = decoder.subtype.startswith("MPEG")
        # Vorbis and MP3 decode a frame by those before it, and libsndfile does not seek in GSM 6.10.
        self.seeks = decoder.seekable() and decoder.format not in ("OGG", "MP3") and decoder.subtype != "GSM610"
        self._decoder = decoder
        # Where soundfile could seek, it would limit reads to the stated frames, and seek after each.
        decoder.seekable = lambda: False

    def read(self, n: int) -> Float32:
        """Return the next samples of all channels, at most n: shape (m, channels); m is 0 only at the end.

        Raises
        ------
        ValueError
            If not a single sample can be decoded.
        """
        block = np.empty((0 if self._ended else n, self.channels), np.float32)
        filled, damage = 0, ""
        with discard_c_stderr() if self._is_mp3 else nullcontext():
            while filled < len(block) and not self._ended:
                part = block[filled : filled + _MP3_FRAMES] if self._is_mp3 else block[filled:]
                try:
                    got = self._decoder.buffer_read_into(part, "float32")
                except RuntimeError as error:
                    damage = soundfile_reason(error)
                    got = self._decoded() - self._position
                self._raise_lost()
                filled += got
                self._position += got
                self._ended = not got or bool(damage)
        if self._ended and len(block):
            self._check_end(damage)
        return block[:filled]

    def seek(self, frame: int) -> None:
        """Go to a sample, at most to the end; a file that does not `seeks` is read up to there, only forwards."""
        if self.seeks:
            frame = min(frame, int(self._decoder.frames))
            self._decoder.seek(frame)
            self._raise_lost()
            self._position, self._ended = frame, False
        while self._position < frame and len(self.read(min(_SKIP, frame - self._position))):
            pass

    def _raise_lost(self) -> None:
        """Raise what a store has answered in the place of bytes."""
        if self._callbacks is not None and self._callbacks.error is not None:
            raise self._callbacks.error

    def _decoded(self) -> int:
        """Return the number of frames decoded so far, which soundfile does not return after an error."""
        try:
            return int(self._decoder.tell())
        except RuntimeError:  # MP3 on a socket: libsndfile has dropped the frames
            return self._position

    def _check_end(self, damage: str) -> None:
        """Warn if the recording ends too early; junk behind the stated samples, such as a tag, is none of it."""
        stated = self.frames or 0
        self.complete = not self._is_cut and self._position >= stated and bool(stated or not damage)
        if self.complete:
            return
        if not self._position:
            raise ValueError(f"{self.name} cannot be read as audio: {damage or 'its header is followed by no samples'}")
        given = f"{self._position / self.rate:.3f} s"
        if self._is_cut:
            text = f"{self.name} gives {given} of sound, but its last page is missing"
        elif self._position < stated:
            text = f"{self.name} gives {given} of sound, but its header states {stated / self.rate:.3f} s"
        else:
            text = f"{self.name} cannot be decoded beyond {given}: {damage}"
        warnings.warn(text, RuntimeWarning, stacklevel=3)

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_rate(name: str, value: Any) -> int:
    """Return a sample rate as an int, or raise an error that names it.

    Rates are whole numbers of Hz from 100, at which only tones below 50 Hz exist, to 10 million, ten times the rates of
    ultrasonic recordings. A header with any other rate is damaged, and resampling would take hours and gigabytes.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {type(value).__name__}, but must be a number of Hz")
    if not math.isfinite(value) or value != int(value) or value < 1:
        raise ValueError(f"{name} is {value}, but must be a whole, positive number of Hz")
    if not MIN_RATE <= value <= MAX_RATE:
        raise ValueError(f"{name} is {value}, but must be from {MIN_RATE} to {MAX_RATE} Hz")
    return int(value)


def soundfile_reason(error: Exception) -> str:
    """Return why soundfile failed, without the file's name, which may be that of a temporary file."""
    return str(getattr(error, "error_string", error)).rstrip(".")


def writing_error(path: Path, error: Exception) -> OSError | None:
    """Return what the operating system has refused where libsndfile says "System error" in writing; None elsewhere."""
    if soundfile_reason(error) != "System error":
        return None
    if shutil.disk_usage(path.parent).free < _FULL:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    return OSError(f"{path} cannot be written: the operating system has refused it")


def import_optional(module: str, purpose: str) -> ModuleType:
    """Import an optional module, or raise ImportError with the purpose that needs it."""
    try:
        with importing:
            return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is needed to {purpose}; install it with: pip install {module}") from error


class _Callbacks:
    """A file whose methods libsndfile calls. They cannot raise there: an error is kept, and the file seems to end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell
        self.error: OSError | None = None

    def readinto(self, buffer: Any) -> int:
        try:
            return 0 if self.error is not None else self._file.readinto(buffer)  # type: ignore[attr-defined]
        except OSError as error:
            self.error = error
            return 0


def _open(path: str | os.PathLike[str]) -> tuple[BinaryIO, bytes | int | _Callbacks]:
    """Open a file, or a copy of what a pipe gives; return it with the name, descriptor or callbacks for libsndfile."""
    if is_url(path):
        return _open_url(str(path))
    try:
        file = open(path, "rb")  # noqa: SIM115 - returned, or closed below
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(mode):
            return file, os.fsencode(path)  # the name, by which libsndfile recognises some formats
        with file:
            if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                copy = _copy(file)
                return copy, os.dup(copy.fileno())
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder, but must be a recording") from None
    except OSError as error:
        raise type(error)(f"{path} cannot be read: {error.strerror}") from error
    raise ValueError(f"{path} is a device, but must be a recording")


def _open_url(url: str) -> tuple[BinaryIO, int | _Callbacks]:
    file: BinaryIO = RangedFile(url)  # type: ignore[assignment]
    head = file.read(4)
    file.seek(0)
    # MP3 and Ogg are read from the beginning to the end, and need a file with a descriptor.
    if head[:3] == b"ID3" or head == b"OggS" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"):
        with file:
            copy = _copy(file)
        return copy, os.dup(copy.fileno())
    return file, _Callbacks(file)


def _decoder(soundfile: ModuleType, file: BinaryIO, handle: bytes | int | _Callbacks, name: str) -> Any:
    """Return libsndfile's decoder for a file that `_open` has opened, or FFmpeg's for one of the kinds left to it."""
    try:
        decoder = soundfile.SoundFile(handle)
    except RuntimeError:
        if name.rpartition(".")[2].lower() not in FFMPEG_ENDINGS:
            raise
        file.seek(0)
        return FFmpegDecoder(file, name)
    if decoder.format == "MP3":
        decoder.close()
        return soundfile.SoundFile(_mp3_on_a_socket(file))
    if decoder.frames == 0 and (repaired := _unfinished_wav(file)):
        decoder.close()
        with repaired:
            return soundfile.SoundFile(os.dup(repaired.fileno()))
    return decoder


def _copy(file: BinaryIO) -> BinaryIO:
    """Copy a file to its end into a temporary file."""
    with ExitStack() as stack:
        copy = stack.enter_context(tempfile.TemporaryFile())
        shutil.copyfileobj(file, copy)
        copy.seek(0)
        stack.pop_all()
        return copy


def _unfinished_wav(file: BinaryIO) -> BinaryIO | None:
    """Return a repaired copy of a WAV or RF64 file whose sizes were never written; None for other files.

    If the file's size is 8 in the header, libsndfile takes all bytes after the header as samples.
    """
    file.seek(0)
    head = file.read(8)
    size = int.from_bytes(head[4:], "little")
    if head[:4] not in (b"RIFF", b"RF64") or size == file.seek(0, os.SEEK_END) - 8:
        return None
    file.seek(0)
    copy = _copy(file)
    copy.write(struct.pack("<4sI", b"RIFF", 8))
    copy.seek(0)
    return copy


def _mp3_on_a_socket(file: BinaryIO) -> int:
    """Return the descriptor of a socket that gives an MP3 file, without the ID3v2 tags before it.

    For a file that can seek, libmpg123 estimates the number of frames if there is no Xing header, and libsndfile stops
    there. From a socket, it reads to the end; a Xing header that cannot be that of the whole file is blanked first.
    """
    start = 0
    while file.seek(start) == start and (tag := file.read(10))[:3] == b"ID3":
        size = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        start += 10 + size + 10 * bool(tag[5] & 0x10)  # with its header and its footer
    head = _without_false_xing(file, start)
    source = os.fdopen(os.dup(file.fileno()), "rb")
    reader, writer = socket.socketpair()

    def send() -> None:
        with source, writer, suppress(OSError):  # the reader may close first
            writer.sendall(head)
            writer.sendfile(source, start + len(head))
            writer.shutdown(socket.SHUT_WR)  # for the reader it ends here, even if a fork has copied the socket

    threading.Thread(target=send, daemon=True).start()
    return reader.detach()


def _without_false_xing(file: BinaryIO, start: int) -> bytes:
    """Return the first bytes of an MP3 file, its Xing header blanked if it was never completed, or more follows it.

    The header lies in a first frame without sound: after its tag come flags and, if their bits 1 and 2 are set, the
    numbers of frames and of bytes.
    """
    file.seek(start)
    head = bytearray(file.read(_XING_ROOM))
    places = [place for tag in (b"Xing", b"Info") if (place := head.find(tag, 0, 64)) >= 0]
    if not places or len(head) < _XING_ROOM:
        return bytes(head)
    flags, *numbers = struct.unpack_from(">III", head, places[0] + 4)
    n_frames = numbers.pop(0) if flags & 1 else 0
    n_bytes = numbers[0] if flags & 2 else 0
    file.seek(start + n_bytes)
    following = int.from_bytes(file.read(2), "big")
    if not n_frames or (n_bytes and following >= 0xFFE0):  # which a frame begins with, and no tag
        head[places[0] :] = bytes(len(head) - places[0])
    return bytes(head)


def _has_last_page(file: BinaryIO) -> bool:
    """Return whether an Ogg file ends with a whole page that is marked as the last of its stream (RFC 3533)."""
    start = max(0, os.fstat(file.fileno()).st_size - _PAGE_ROOM)
    end = os.pread(file.fileno(), _PAGE_ROOM, start)  # the decoder's position may be the file's
    page = end[max(0, end.rfind(b"OggS")) :]
    if page[:4] != b"OggS" or len(page) < 27:
        return False
    sizes = page[27 : 27 + page[26]]
    return bool(page[5] & 4) and len(page) >= 27 + page[26] + sum(sizes)


def _stated_frames(decoder: Any) -> int | None:
    """Return the number of frames that a header states, which may be more than the file has; None if it is unknown."""
    frames = int(decoder.frames)
    # libsndfile reduces sizes to those of the file, and notes this only in its log.
    reduced = r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)$"
    if found := re.search(reduced, decoder.extra_info, re.MULTILINE):
        stated, actual = map(int, found.groups())
        if actual + 8 <= stated < _UNKNOWN_BYTES:  # W64 may count up to 7 bytes of padding
            return max(frames * stated // max(actual, 1), frames + 1)
    return frames if frames < _UNKNOWN_FRAMES else None
