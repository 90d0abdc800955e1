"""Throughput of archives: `l2i batch` beside a loop as published and a torch loop with batches and workers.

Usage: python benchmarks/archive.py DATA [--minutes 10] [--jobs 2] [--rounds 3], with recordings in ESC-50's layout,
which are joined to FLAC files of two minutes at 48 kHz. All take the same windows, networks, classes and confidence,
and write the sound of each event as FLAC; they take turns on the same files. The start of the processes of l2i batch,
some seconds whatever the archive's size, is stated alone.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import librosa
import numpy as np
import soundfile
import soxr
import torch
import typer

import l2i_fast as l2i
from l2i_fast.archive import sounds, work
from l2i_fast.archive.tables import read_events
from l2i_fast.data import load_dataset
from l2i_fast.model import L2I
from l2i_fast.networks.interpreter import UNEXPLAINED

RATE, CONFIDENCE, WINDOW, HOP = 48000, 0.5, 5.0, 4.0
Event = tuple[str, float, str]
#: Events of a run: probability and share kept.
Events = dict[Event, tuple[float, float]]


def make_archive(data: Path, folder: Path, minutes: float) -> list[Path]:
    """Join recordings in a random order to files of two minutes or, the last one, less."""
    clips = [clip.path for clip in load_dataset(data).clips]
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    files, left, n = [], minutes * 60, 0
    while left * RATE >= 1:
        chosen = [clips[i] for i in rng.integers(0, len(clips), 30)]
        parts = [soxr.resample(soundfile.read(path, dtype="float32")[0], 44100, RATE) for path in chosen]
        y = np.concatenate(parts)[: round(min(120, left) * RATE)]
        files.append(folder / f"{n:03d}.flac")
        soundfile.write(files[-1], np.clip(y, -1, 1), RATE, subtype="PCM_16")
        left -= len(y) / RATE
        n += 1
    return files


def windows_of(y: np.ndarray, rate: int, length: int) -> Iterator[tuple[float, np.ndarray]]:
    """Yield start and samples of each window; the last one ends with the recording."""
    hop = round(HOP * rate)
    count = 1 + max(0, -(-(len(y) - length) // hop))
    for i in range(count):
        start = max(0, min(i * hop, len(y) - length))
        yield start / rate, y[start : start + length]


class Published:
    """One window after another: librosa's transforms, one component after another, W H again for each."""

    def __init__(self, model: L2I, length: int) -> None:
        self.model, self.length, a = model, length, model.analysis
        self.W = model.dictionary
        self.filters = librosa.filters.mel(sr=a.sample_rate, n_fft=a.n_fft, n_mels=a.n_mels)

    @torch.inference_mode()
    def __call__(self, files: list[Path], folder: Path) -> Events:
        model, a = self.model, self.model.analysis
        events: Events = {}
        for file in files:
            whole, _ = librosa.load(file, sr=a.sample_rate)
            for start, y in windows_of(whole, a.sample_rate, self.length):
                scale = np.abs(y).max() or 1
                X = librosa.stft(y / scale, n_fft=a.n_fft, hop_length=a.hop_length)
                decibels = 10 * np.log10(np.maximum(a.amin, self.filters @ np.abs(X)))
                features = torch.from_numpy(decibels.T[None, None].astype(np.float32))
                logits, maps = model.network.run(features)
                probabilities = torch.softmax(logits, -1)[0].numpy()
                for target in np.flatnonzero(probabilities >= CONFIDENCE).tolist():
                    H, z, _ = model.read(maps, features.shape[2])
                    V = np.log1p(np.abs(X))
                    h = fitted(torch.from_numpy(V)[None], H, torch.from_numpy(self.W), model)[0].numpy()
                    chosen = model.select(model.relevance(z[0], target), model.selection)
                    total = np.zeros_like(V)
                    for k in chosen:
                        total += np.outer(self.W[:, k], h[k]) / (1e-6 + np.dot(self.W, h))
                    m = total**4 / (total**4 + (1 - total) ** 4)
                    Y = m * np.abs(X) * np.exp(1j * np.angle(X))
                    sound = librosa.istft(Y, hop_length=a.hop_length, n_fft=a.n_fft, length=len(y)) * scale
                    write(folder, file, start, model.classes[target], sound, a.sample_rate)
                    kept = float((np.abs(Y) ** 2).sum() / (np.abs(X) ** 2).sum())
                    events[file.name, round(start, 3), model.classes[target]] = float(probabilities[target]), kept
        return events


class Windows(torch.utils.data.IterableDataset):  # type: ignore[misc]
    """Windows of the files, which workers share among them."""

    def __init__(self, files: list[Path], rate: int, length: int) -> None:
        self.files, self.rate, self.length = files, rate, length

    def __iter__(self) -> Iterator[tuple[str, float, np.ndarray]]:
        worker = torch.utils.data.get_worker_info()
        for file in self.files[worker.id :: worker.num_workers] if worker else self.files:
            y, rate = soundfile.read(file, dtype="float32")
            y = soxr.resample(y, rate, self.rate)
            for start, window in windows_of(y, self.rate, self.length):
                yield str(file), start, window


class Batched:
    """Batches of windows from a DataLoader's workers, torch for everything."""

    def __init__(self, model: L2I, length: int, n_workers: int, batch_size: int = 16) -> None:
        self.model, self.length, self.n_workers, self.batch_size = model, length, n_workers, batch_size
        a = model.analysis
        self.W = torch.from_numpy(model.dictionary.copy())
        filters = librosa.filters.mel(sr=a.sample_rate, n_fft=a.n_fft, n_mels=a.n_mels)
        self.filters, self.hann = torch.from_numpy(filters), torch.hann_window(a.n_fft)

    @torch.inference_mode()
    def __call__(self, files: list[Path], folder: Path) -> Events:
        model, a = self.model, self.model.analysis
        loader = torch.utils.data.DataLoader(
            Windows(files, a.sample_rate, self.length), batch_size=self.batch_size, num_workers=self.n_workers
        )
        events: Events = {}
        for names, starts, y in loader:
            scales = y.abs().amax(1).clamp(min=1e-30)
            X = torch.stft(
                y / scales[:, None], a.n_fft, a.hop_length, window=self.hann, pad_mode="constant", return_complex=True
            )
            A = X.abs()
            features = 10 * torch.log10((self.filters @ A).clamp(min=a.amin)).transpose(1, 2)[:, None]
            logits, maps = model.network.run(features)
            probabilities = torch.softmax(logits, -1)
            places = (probabilities >= CONFIDENCE).nonzero().tolist()
            if not places:
                continue
            H, z, _ = model.read(maps, features.shape[2])
            heard = [b for b, _ in places]
            H = fitted(torch.log1p(A[heard]), H[heard], self.W, model)
            weights = torch.zeros(len(places), H.shape[1])
            for i, (b, target) in enumerate(places):
                weights[i, list(model.select(model.relevance(z[b], target), model.selection))] = 1
            total = (self.W @ (H * weights[..., None])) / (1e-6 + self.W @ H)
            m = total**4 / (total**4 + (1 - total) ** 4)
            Y = m * X[heard]
            sound = torch.istft(Y, a.n_fft, a.hop_length, window=self.hann, length=y.shape[1]) * scales[heard, None]
            kept = (Y.abs() ** 2).sum((1, 2)) / (A[heard] ** 2).sum((1, 2))
            for i, (b, target) in enumerate(places):
                file, start, label = Path(names[b]), float(starts[b]), model.classes[target]
                write(folder, file, start, label, sound[i].numpy(), a.sample_rate)
                events[file.name, round(start, 3), label] = float(probabilities[b, target]), float(kept[i])
        return events


def fitted(V: torch.Tensor, H: torch.Tensor, W: torch.Tensor, model: L2I) -> torch.Tensor:
    """Fit activations (B, K, T) to spectra (B, F, T) by the model's multiplicative updates, in torch."""
    numerator = W.T @ V
    H = H + UNEXPLAINED * numerator
    products = W.T @ W
    for _ in range(model.interpreter.updates):
        H = H * numerator / (products @ H).clamp(min=1e-12)
    return H


def write(folder: Path, file: Path, start: float, label: str, sound: np.ndarray, rate: int) -> None:
    """Write a window's sound."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{file.stem}-{start:010.3f}-{label}.flac"
    soundfile.write(path, np.clip(sound, -1, 1), rate, subtype="PCM_24", compression_level=0.5)


class Ours:
    """`l2i batch`."""

    def __init__(self, sound: str, n_jobs: int) -> None:
        self.sound, self.n_jobs = sound, n_jobs

    def __call__(self, files: list[Path], folder: Path) -> Events:
        run = l2i.Batch(files, folder, sound=self.sound, jobs=self.n_jobs)
        for _ in run:
            pass
        return {
            (Path(row["recording"]).name, round(row["start"], 3), row["label"]): (row["probability"], row["kept"])
            for row in read_events(folder)
        }


def stages(files: list[Path], folder: Path, sound: str) -> dict[str, float]:
    """Return the share of each stage of l2i batch in one process, by clocks around its functions."""
    spent: dict[str, float] = defaultdict(float)
    inside: list[str] = []

    def clocked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if inside:  # counted by the stage that calls
                return function(*args, **kwargs)
            inside.append(name)
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                inside.pop()
                spent[name] += time.perf_counter() - begin

        return timed

    def clocked_steps(name: str, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def timed(*args: Any, **kwargs: Any) -> Iterator[Any]:
            step = clocked(name, function(*args, **kwargs).__next__)
            while True:
                try:
                    yield step()
                except StopIteration:
                    return

        return timed

    model = l2i.load("esc10")
    network = type(model.network)
    places: list[tuple[Any, str, str]] = [
        (network, "analyze", "analysis"), (network, "run", "networks"), (L2I, "read", "networks"),
        (L2I, "fit", "updates"), (work, "soft_mask", "decoding to sound"), (work, "istft", "decoding to sound"),
        (work, "measure", "measures"), (sounds.SoundWriter, "write", "writing"),
        (sounds.SoundWriter, "close", "writing"), (sounds.Joined, "add", "decoding to sound"),
    ]  # fmt: skip
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places] + [(work, "blocks", work.blocks)]
    try:
        for owner, name, stage in places:
            setattr(owner, name, clocked(stage, getattr(owner, name)))
        work.blocks = clocked_steps("reading and resampling", work.blocks)
        begin = time.perf_counter()
        Ours(sound, 1)(files, folder)
        total = time.perf_counter() - begin
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)
    spent["everything else"] = total - sum(spent.values())
    return {name: seconds / total for name, seconds in sorted(spent.items(), key=lambda item: -item[1])}


def agreement(events: Events, wanted: Events) -> str:
    """Return how the events of one loop agree with those of another."""
    common = events.keys() & wanted.keys()
    apart = len(events.keys() ^ wanted.keys())
    differences = [[abs(a - b) for a, b in zip(events[key], wanted[key], strict=True)] for key in common]
    probability, kept = np.max(differences, axis=0)
    return f"{len(common)} events in common, {apart} not; probabilities within {probability:.1g}, kept {kept:.1g}"


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the recordings.")],
    minutes: Annotated[float, typer.Option(help="Sound to explain.")] = 10,
    jobs: Annotated[int, typer.Option(help="Processes of l2i batch, and threads and workers of the others.")] = 2,
    rounds: Annotated[int, typer.Option(help="Turns that each takes; the median counts.")] = 3,
    published: Annotated[float, typer.Option(help="Share of the files for the published loop, which is slow.")] = 0.25,
) -> None:
    torch.set_num_threads(jobs)
    model = l2i.load("esc10")
    assert model.selection.domain == "wiener"
    length = work.Job("esc10", Path(), None, l2i.Batch([], Path(), jobs=1).settings, model.selection)
    n_samples = length.grid(model.analysis).length
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        files = make_archive(data, root / "in", minutes)
        few = files[: max(1, round(published * len(files)))]
        loops: dict[str, tuple[Callable[[list[Path], Path], Events], list[Path]]] = {
            "published loop": (Published(model, n_samples), few),
            f"torch, batches of 16, {jobs} workers": (Batched(model, n_samples, jobs), files),
            "torch, batches of 16, 1 worker": (Batched(model, n_samples, 1), files),
            "l2i batch, no sound": (Ours("none", jobs), files),
            "l2i batch, sound of events": (Ours("events", jobs), files),
            "l2i batch, all sound": (Ours("all", jobs), files),
        }
        starts = []
        soundfile.write(root / "short.flac", np.zeros(10000), RATE)
        for i in range(rounds):
            begin = time.perf_counter()
            Ours("none", jobs)([root / "short.flac"], root / f"start{i}")
            starts.append(time.perf_counter() - begin)
        start = statistics.median(starts)
        hours: dict[str, list[float]] = defaultdict(list)
        found: dict[str, Events] = {}
        for i in range(rounds):
            for n, (name, (loop, some)) in enumerate(loops.items()):
                begin = time.perf_counter()
                found[name] = loop(some, root / f"out{i}-{n}")
                seconds = time.perf_counter() - begin - (start if isinstance(loop, Ours) else 0)
                hours[name].append(sum(soundfile.info(file).duration for file in some) / seconds)
                print(f"{name}: {hours[name][-1]:.1f} h an hour", flush=True)
                shutil.rmtree(root / f"out{i}-{n}")
        ours = "l2i batch, sound of events"
        rates = {name: statistics.median(values) for name, values in hours.items()}
        print(
            f"\n| {minutes:g} minutes, {jobs} cores | hours an hour | least to most | ours / this |\n|---|---|---|---|"
        )
        for name, rate in rates.items():
            low, high = min(hours[name]), max(hours[name])
            print(f"| {name} | {rate:.0f} | {low:.0f} to {high:.0f} | {rates[ours] / rate:.2f} |")
        print(f"\nl2i batch starts its processes in {start:.1f} s, which is not included")
        for name, events in found.items():
            wanted = {
                key: value for key, value in found[ours].items() if key[0] in {file.name for file in loops[name][1]}
            }
            print(f"{name}: {agreement(events, wanted)}")
        print(f"\n| share of the time, one process | {' | '.join(('none', 'events', 'all'))} |\n|---|---|---|---|")
        shares = [stages(files, root / f"stages-{sound}", sound) for sound in ("none", "events", "all")]
        for name in shares[-1]:
            print(f"| {name} | {' | '.join(f'{100 * share.get(name, 0):.1f} %' for share in shares)} |")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    typer.run(main)
