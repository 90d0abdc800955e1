"""Microphone and speaker, through sounddevice and PortAudio.

PortAudio calls back from a thread of its own. The callbacks here never wait: they pass blocks on and count losses; the
loop of `l2i_fast.live.session` does the rest.
"""

from __future__ import annotations

import importlib
import os
import queue
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2i_fast.arrays import Float32
from l2i_fast.live.sinks import Sink
from l2i_fast.live.sources import WAIT, Source

#: Seconds without a sample after which a microphone counts as disconnected.
SILENT = 3.0
#: Seconds of sound that a microphone buffers while the loop is busy elsewhere.
KEPT = 10.0


def sounddevice() -> ModuleType:
    """Import sounddevice.

    Raises
    ------
    ImportError
        If it is not installed or finds no PortAudio; the message says what to install.
    """
    try:
        return importlib.import_module("sounddevice")
    except ModuleNotFoundError as error:
        raise ImportError(
            "sounddevice is not installed, but microphone and speaker need it: pip install 'l2i_fast[live]'"
        ) from error
    except OSError as error:
        raise ImportError(
            f"sounddevice finds no PortAudio ({error}), but microphone and speaker need it: "
            "apt install libportaudio2 (Debian, Ubuntu)"
        ) from error


def describe_devices() -> str:
    """Return a table of the sound devices: number, name, channels in and out, defaults marked."""
    return repr(sounddevice().query_devices()) or "no sound devices found"


class Microphone(Source):
    """An input device, at `rate` if it supports that, otherwise at its own rate."""

    can_wait = False

    def __init__(self, device: int | str | None, rate: int, channels: int, block: int) -> None:
        self._ended = False
        self._heard_at = time.monotonic()
        self._queue: queue.SimpleQueue[Float32] = queue.SimpleQueue()
        self._none = np.empty((0, channels), np.float32)
        self._port = _open("Input", device, rate, channels, block, self._take, self._end)
        self.rate = int(self._port.samplerate)
        self.latency = float(self._port.latency)
        self.name = "microphone"
        self._most = int(KEPT * self.rate / block)
        self._port.start()

    def _take(self, samples: Float32, frames: int, times: Any, status: Any) -> None:
        """Receive a block from PortAudio."""
        full = self._queue.qsize() >= self._most
        self.lost += bool(status.input_overflow) + full
        if not full:
            self._queue.put(samples.copy())  # the memory is PortAudio's

    def _end(self) -> None:
        """Note that PortAudio has ended the stream."""
        self._ended = True

    def _samples(self) -> NDArray[Any] | None:
        try:
            samples = self._queue.get(timeout=WAIT)
        except queue.Empty:
            if self._ended or time.monotonic() - self._heard_at > SILENT:
                raise OSError(
                    f"the {self.name} gives no more sound: it was unplugged or taken by another program"
                ) from None
            return self._none
        self._heard_at = time.monotonic()
        return samples

    def close(self) -> None:
        """Stop recording."""
        self._port.close()


class Speaker(Sink):
    """An output device, at `rate` if it supports that, otherwise at its own rate.

    Parameters
    ----------
    device : int or str, optional
        Number or part of the name; the system's default if None.
    rate : int
        Hz.
    block : int
        Samples played at a time.
    wait : bool
        Whether `write` waits for room. A microphone cannot wait: sound that does not fit is lost, then.
    """

    def __init__(self, device: int | str | None, rate: int, block: int, wait: bool) -> None:
        self._wait = wait
        self._started = self._closing = self._ended = False
        self._written = self._played = 0  # samples; each is counted by one thread alone
        self._queue: deque[Float32] = deque()
        self._port = _open("Output", device, rate, 1, block, self._fill, self._end)
        self.rate = int(self._port.samplerate)
        self.name = "speaker"
        #: Samples with which it starts to play; it holds at most four times as many.
        self._ahead = max(2 * block, self.rate // 50)

    @property
    def latency(self) -> float:  # type: ignore[override]
        """Seconds from `write` to the sound."""
        return float(self._port.latency) + (self._written - self._played) / self.rate

    def write(self, y: Float32) -> None:
        """Take samples (m,)."""
        self._queue.append(y)
        self._written += len(y)
        if not self._started and self._written >= self._ahead:
            self._start()
        while self._wait and self._written - self._played > 4 * self._ahead and not self._ended:
            time.sleep(self._ahead / self.rate / 2)
        if self._ended:
            raise OSError(f"the {self.name} takes no more sound: it was unplugged or taken by another program")

    def _start(self) -> None:
        self._started = True
        self._port.start()

    def _fill(self, out: Float32, frames: int, times: Any, status: Any) -> None:
        """Give PortAudio the block that it asks for."""
        if not self._wait:
            while self._written - self._played > max(4 * self._ahead, frames):
                self._played += len(self._queue.popleft())
                self.lost += 1
        done = 0
        while done < frames and self._queue:
            piece = self._queue[0][: frames - done]
            out[done : done + len(piece), 0] = piece
            rest = self._queue.popleft()[len(piece) :]
            if len(rest):
                self._queue.appendleft(rest)
            done += len(piece)
        out[done:] = 0
        self._played += done
        self.lost += bool(status.output_underflow or done < frames) and not self._closing

    def _end(self) -> None:
        """Note that PortAudio has ended the stream."""
        self._ended = True

    def close(self) -> None:
        """Play the rest, then stop."""
        self._closing = True
        if not self._started and self._written:
            self._start()
        give_up = time.monotonic() + SILENT + (self._written - self._played) / self.rate
        while self._written > self._played and not self._ended and time.monotonic() < give_up:
            time.sleep(WAIT / 10)
        if not self._ended:
            self._port.stop()  # waits until the device has played its own buffer
        self._port.close()


def _open(kind: str, device: int | str | None, rate: int, channels: int, block: int, callback: Any, ended: Any) -> Any:
    """Open an InputStream or OutputStream of sounddevice at `rate` or, if the device rejects it, at its own rate."""
    sd = sounddevice()
    what = {"Input": "microphone", "Output": "speaker"}[kind]
    try:
        with _hushed():
            info = sd.query_devices(device, kind.lower())
            settings = {"device": device, "channels": channels, "dtype": "float32"}
            try:
                getattr(sd, f"check_{kind.lower()}_settings")(samplerate=rate, **settings)
            except sd.PortAudioError:
                rate = int(info["default_samplerate"])
            return getattr(sd, f"{kind}Stream")(
                samplerate=rate, blocksize=block, callback=callback, finished_callback=ended, **settings
            )
    except (sd.PortAudioError, ValueError) as error:
        hint = "l2i stream --list-devices shows all devices"
        raise OSError(f"no {what} can be used: {error}; {hint}") from error


@contextmanager
def _hushed() -> Iterator[None]:
    """Suppress the messages of PortAudio and ALSA on file descriptor 2 for every setting that a device rejects."""
    sys.stderr.flush()
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)
