"""Stand-ins that need neither torch nor a sound card: a model whose stream only delays, and sounddevice."""

import sys
import threading
import time
import types
from types import SimpleNamespace

import numpy as np

LATENCY = 64


class FakeStream:
    """Returns its input LATENCY samples later; predicts another class every `refresh` seconds."""

    latency, channels = LATENCY, 1

    def __init__(self, samplerate=44100, refresh=0.25, mode="realtime", **settings):
        self.sample_rate = samplerate
        self.mode, self.refresh, self.settings = mode, refresh, settings
        self.closed = False
        self.error = None
        self.latest = None
        self.overruns = 0
        self._pushed = 0
        self._held = np.zeros(LATENCY, np.float32)

    @property
    def statistics(self):
        refreshes = int(self._pushed / (self.refresh * self.sample_rate))
        return SimpleNamespace(hops=self._pushed // 512, refreshes=refreshes, overruns=self.overruns, failures=0)

    def push(self, block):
        assert not self.closed
        assert block.dtype == np.float32
        assert block.ndim == 1
        assert np.isfinite(block).all()
        self._pushed += len(block)
        if count := self.statistics.refreshes:
            self.latest = refresh(("dog",) if count % 2 else ("rain",))
        y = np.concatenate([self._held, block])
        self._held = y[len(block) :]
        return y[: len(block)]

    def flush(self):
        assert not self.closed
        rest, self._held = self._held, np.zeros(LATENCY, np.float32)
        return rest

    def close(self):
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def refresh(prediction, components=(2, 0)):
    """The findings of a network."""
    probabilities = np.array([0.8 if name in prediction else 0.1 for name in FakeModel.classes], np.float32)
    relevance = np.array([0.5, -0.2, 1.0], np.float32)
    return SimpleNamespace(
        frame=1, prediction=prediction, targets=prediction, probabilities=probabilities, relevance=relevance,
        components=components, scale=1.0,
    )  # fmt: skip


class FakeModel:
    """The part of a model that the command uses."""

    classes = ("dog", "rain", "clock tick")
    sample_rate = 44100
    analysis = SimpleNamespace(n_fft=1024)
    dictionary = np.eye(513, 3, dtype=np.float32)

    def stream(self, samplerate, **settings):
        return FakeStream(samplerate, **settings)


class DeviceList:
    """Prints as a table, like sounddevice's list."""

    def __repr__(self):
        return "> 0 fake, ALSA (1 in, 1 out)"


class FakeSoundDevice(types.ModuleType):
    """sounddevice with one device that takes 44100 Hz only, and that plays and records at real speed.

    The microphone gives `sound`; blocks played are appended to `played`.
    """

    class PortAudioError(Exception):
        pass

    class CallbackStop(Exception):
        pass

    def __init__(self, sound=None, unplug_after=None, rates=(44100,), problems=None):
        super().__init__("sounddevice")
        self.__version__ = "0"
        self.sound = np.zeros((0, 1), np.float32) if sound is None else sound
        self.unplug_after = unplug_after
        self.rates = rates
        self.problems = problems or {}
        self.played = []
        self.opened = []
        fake = self

        class Stream:
            latency = 0.01

            def __init__(self, samplerate, blocksize, device, channels, dtype, callback, finished_callback):
                assert dtype == "float32"
                fake.check(samplerate)
                self.samplerate, self.blocksize, self.channels = samplerate, blocksize, channels
                self._callback, self._finished = callback, finished_callback
                self._closed = threading.Event()
                self._thread = threading.Thread(target=self._run, daemon=True)
                fake.opened.append((type(self).__name__, device, samplerate, blocksize, channels))

            def start(self):
                self._thread.start()

            def _run(self):
                start, block = time.monotonic(), 0
                while not self._closed.is_set() and (fake.unplug_after is None or block < fake.unplug_after):
                    self._step(block, fake.status(block))
                    block += 1
                    time.sleep(max(0, start + block * self.blocksize / self.samplerate - time.monotonic()))
                self._finished()

            def stop(self):
                self._closed.set()
                self._thread.join()

            def close(self):
                self._closed.set()
                if self._thread.ident:
                    self._thread.join()

        class InputStream(Stream):
            def _step(self, block, status):
                samples = fake.sound[block * self.blocksize : (block + 1) * self.blocksize]
                if len(samples):
                    self._callback(samples, len(samples), None, status)

        class OutputStream(Stream):
            def _step(self, block, status):
                out = np.full((self.blocksize, self.channels), np.nan, np.float32)
                self._callback(out, len(out), None, status)
                fake.played.append(out)

        self.InputStream, self.OutputStream = InputStream, OutputStream

    def status(self, block):
        problem = self.problems.get(block)
        return SimpleNamespace(input_overflow=problem == "overflow", output_underflow=problem == "underflow")

    def check(self, rate):
        if rate not in self.rates:
            raise self.PortAudioError("Invalid sample rate [PaErrorCode -9997]")

    def check_input_settings(self, samplerate, **_):
        self.check(samplerate)

    check_output_settings = check_input_settings

    def query_devices(self, device=None, kind=None):
        if device not in (None, 0):
            raise ValueError(f"No {kind} device matching {device!r}")
        return {"name": "fake", "default_samplerate": float(self.rates[0])} if kind else DeviceList()


def install():
    """Make `l2i_fast.model.load` return a FakeModel, without importing torch."""
    sys.modules["l2i_fast.model"] = module = types.ModuleType("l2i_fast.model")
    module.load = lambda *_: FakeModel()
