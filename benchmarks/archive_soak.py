"""Archives that go wrong: thousands of small files, broken ones among them, and runs that are killed or disturbed.

Usage: python benchmarks/archive_soak.py [--files 2000] [--kills 20]. An undisturbed run of `l2i batch` is compared,
byte for byte in tables and sound, with runs that are killed at random moments, that meet a full disk (if this user may
mount one), errors in reading, and a clock that jumps; each is resumed until it ends.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import soundfile
import typer

RATE = 44100
ODD = ["a b", "ä ö ü", "🐕", "line\nbreak", "-dash", "x" * 249, "tab\t", "'\"", "100%", "#?&", "\\", "日本"]

#: What runs in place of the command to disturb it, in one process so that it reaches the reading.
ERRORS = """
import random, l2i_fast.recording as recording
read = recording.RecordingFile.read
def failing(self, n):
    if random.random() < 0.02:
        raise OSError(5, "Input/output error")
    return read(self, n)
recording.RecordingFile.read = failing
"""
CLOCK = """
import random, time
true, jump = time.time, [0.0]
def jumping():
    jump[0] += random.choice([-1, 1]) * random.uniform(0, 100000)
    return true() + jump[0]
time.time = jumping
"""
MAIN = "from l2i_fast.cli import main\nmain()\n"


def make_files(folder: Path, n: int) -> dict[str, str]:
    """Write n recordings of a second; of each twenty one is broken. Return the kind of problem of each broken one."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    kinds: dict[str, str] = {}
    for i in range(n):
        odd = ODD[i % len(ODD)]
        name = f"{odd[: 249 - len(str(i))]}{i}.wav" if i % 3 == 0 else f"{i:05d}.wav"
        file = folder / name
        y = np.clip(np.cumsum(rng.standard_normal(RATE)) / 100, -1, 1)
        soundfile.write(file, y, RATE, subtype="PCM_16")
        if i % 20 == 19:
            kinds[name] = damage(file, i // 20 % 10, y)
    return kinds


def damage(file: Path, way: int, y: np.ndarray) -> str:
    """Break a recording in one of ten ways; return the kind of problem that is to be reported."""
    data = file.read_bytes()
    if way == 0:
        file.write_bytes(b"")
    elif way == 1:
        file.write_text("This is no sound.\n")
    elif way == 2:
        file.write_bytes(data[:20])
    elif way == 3:
        file.write_bytes(data[:44])
    elif way == 4:
        file.write_bytes(os.urandom(5000))
    elif way == 5:
        file.write_bytes(data[: len(data) // 2])
        return "incomplete"
    elif way == 6:
        soundfile.write(file, np.zeros(RATE), RATE)
        return "silent"
    elif way == 7:
        soundfile.write(file, y[:10], RATE)
        return "short"
    elif way == 8:
        soundfile.write(file, np.r_[y[:-1], np.nan], RATE, subtype="FLOAT")
        return "not finite"
    else:
        file.unlink()
        file.symlink_to("nowhere.wav")
        return "missing"
    return "damaged"


def command(files: Path, output: Path, jobs: int, before: str = "") -> subprocess.Popen[str]:
    """Start `l2i batch` in a process group of its own."""
    arguments = ["batch", str(files / "*"), "--output", str(output), "--jobs", str(jobs), "--confidence", "0.3"]
    return subprocess.Popen(
        [sys.executable, "-P", "-c", before + MAIN, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a run that ends with problems, as it has to; return what it said."""
    said = process.communicate()[1]
    assert process.returncode == 1, f"exit status {process.returncode}: {said}"
    return said


def contents(folder: Path) -> dict[str, str]:
    """Return the digests of tables and sound."""
    files = [path for part in ("events", "errors", "sound") for path in (folder / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def same(folder: Path, wanted: dict[str, str], what: str) -> None:
    """Stop if tables and sound of a folder are not those of the undisturbed run."""
    found = contents(folder)
    differing = [name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)]
    assert not differing, f"{what}: {len(differing)} files differ, such as {differing[:3]}"
    print(f"{what}: {len(found)} files equal those of the undisturbed run", flush=True)


@contextmanager
def small_disk(place: Path, megabytes: float) -> Iterator[None]:
    """Mount a file system in memory."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes:.0f}m", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def killed(files: Path, output: Path, wanted: dict[str, str], seconds: float, kills: int) -> None:
    """Kill runs at random moments, and resume each, until there were enough; compare each folder that is finished."""
    done, folders = 0, 0
    moments = []
    while done < kills:
        folder = output.with_name(f"{output.name}{folders}")
        while True:
            process = command(files, folder, 2)
            moment = random.uniform(0.05, 0.6) * seconds
            try:
                said = process.communicate(timeout=moment if done < kills else None)[1]
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                done += 1
                moments.append(moment)
                continue
            assert process.returncode == 1, said
            break
        same(folder, wanted, f"{done} kills so far, after {min(moments):.1f} to {max(moments):.1f} s")
        folders += 1


def main(
    files: Annotated[int, typer.Option(help="Number of recordings.")] = 2000,
    kills: Annotated[int, typer.Option(help="Number of kills.")] = 20,
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        kinds = make_files(root / "in", files)
        begin = time.perf_counter()
        finish(command(root / "in", root / "whole", 2))
        seconds = time.perf_counter() - begin
        errors = pq.read_table(root / "whole" / "errors").to_pylist()
        found = {Path(row["recording"]).name: row["kind"] for row in errors}
        assert found == kinds, {name: (found.get(name), kinds.get(name)) for name in found.keys() ^ kinds.keys()}
        heard = {row["recording"] for row in pq.read_table(root / "whole" / "events").to_pylist()}
        print(f"{files} recordings in {seconds:.0f} s, {len(heard)} with events; problems: {Counter(kinds.values())}")
        wanted = contents(root / "whole")
        killed(root / "in", root / "killed", wanted, seconds, kills)
        finish(command(root / "in", root / "errors", 1, ERRORS))
        lost = len(pq.read_table(root / "errors" / "errors")) - len(kinds)
        finish(command(root / "in", root / "errors", 2))
        same(root / "errors", wanted, f"{lost} errors in reading")
        finish(command(root / "in", root / "clock", 1, CLOCK))
        same(root / "clock", wanted, "a clock that jumps")
        size = sum(path.stat().st_size for path in (root / "whole").rglob("*") if path.is_file()) / 1e6
        try:
            with small_disk(root / "disk", 0.5 * size):
                full: Any = command(root / "in", root / "disk" / "out", 2)
                said = full.communicate()[1].strip().splitlines()[-1]
                assert full.returncode == 1, said
                print(f"full disk: {said}")
                subprocess.run(["mount", "-o", f"remount,size={3 * size:.0f}m", str(root / "disk")], check=True)
                finish(command(root / "in", root / "disk" / "out", 2))
                same(root / "disk" / "out", wanted, "a full disk")
        except subprocess.CalledProcessError:
            print("full disk: not tried, since this user may not mount one")


if __name__ == "__main__":
    typer.run(main)
