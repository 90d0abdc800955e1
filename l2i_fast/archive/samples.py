"""Parts of long recordings, at the model's rate and in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from l2i_fast.recording import RecordingFile, import_optional

Audio = NDArray[np.float32]

#: Samples of each channel to decode at a time.
_BLOCK = 1 << 16
#: Samples at the lower rate by which the resampler is led in; its filter is shorter.
_LEAD = 1000


def length_at(frames: int, rate: int, sample_rate: int) -> int:
    """Return the number of samples that `frames` samples at `rate` Hz have at `sample_rate` Hz."""
    return -(-frames * sample_rate // rate)


def blocks(
    file: RecordingFile, sample_rate: int, start: int = 0, first_frame: int = 0, last_frame: int | None = None
) -> Iterator[Audio]:
    """Yield the mean of the channels at `sample_rate` from sample `start` on, block by block.

    Wherever it starts, the samples are those of the whole recording, resampled as `l2i_fast.audio.resample` does,
    to the precision of float32.

    Parameters
    ----------
    file : RecordingFile
        Newly opened, or one that `seeks`.
    sample_rate : int
        Hz.
    start : int
        First sample, counted from `first_frame` at `sample_rate`.
    first_frame, last_frame : int
        Part of the file to read, at its own rate; to its end by default.

    Raises
    ------
    ValueError
        NaN or infinity.
    """
    rate = file.rate
    # The resampler starts at a sample where both rates have one.
    step = rate // math.gcd(rate, sample_rate)
    lead = max(0, start * rate // sample_rate - _LEAD * max(1, rate // sample_rate)) // step * step
    if rate == sample_rate:
        lead = start
    file.seek(first_frame + lead)
    position = first_frame + lead
    drop = start - lead * sample_rate // rate
    end = None if last_frame is None else length_at(last_frame - first_frame, rate, sample_rate) - start
    stream = None
    if rate != sample_rate:
        soxr = import_optional("soxr", f"resample from {rate} to {sample_rate} Hz")
        stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
    given, last = 0, False
    while not last:
        wanted = _BLOCK if last_frame is None else min(_BLOCK, last_frame - position)
        block = file.read(wanted).mean(axis=1, dtype=np.float32) if wanted else np.empty(0, np.float32)
        if not np.isfinite(block).all():
            moment = (position + int(np.argmin(np.isfinite(block)))) / rate
            raise ValueError(
                f"{file.name} holds NaN or infinity (first at {moment:.3f} s), but finite samples are needed"
            )
        position += len(block)
        last = not len(block)
        y = block
        if stream is not None:
            # Two more samples of silence at either rate, as in `resample`, make up for soxr's rounding of the length.
            y = stream.resample_chunk(np.zeros(2 + 2 * rate // sample_rate, np.float32) if last else block, last=last)
            if last:
                end = length_at(position - first_frame, rate, sample_rate) - start
        skipped = min(drop, len(y))
        y, drop = y[skipped:], drop - skipped
        if end is not None:
            y = y[: max(0, end - given)]
        if len(y):
            given += len(y)
            yield np.ascontiguousarray(y, np.float32)


def read_parts(file: RecordingFile, sample_rate: int, parts: Sequence[tuple[int, int]]) -> Iterator[tuple[int, Audio]]:
    """Yield the samples of parts of a recording, which may overlap, as `blocks` gives them: index of the part, samples.

    Parameters
    ----------
    file : RecordingFile
        Newly opened, or one that `seeks`.
    sample_rate : int
        Hz.
    parts : sequence of (int, int)
        First sample at `sample_rate`, and the one after the last, at most that of the recording.
    """
    order = sorted(range(len(parts)), key=parts.__getitem__)
    while order:
        begin, end = parts[order[0]]
        group = []  # read on the same way
        while order and (not file.seeks or parts[order[0]][0] <= end):
            group.append(order.pop(0))
            end = max(end, parts[group[-1]][1])
        position = begin
        for block in blocks(file, sample_rate, begin):
            for i in group:
                start, stop = parts[i]
                part = block[max(0, start - position) : max(0, stop - position)]
                if len(part):
                    yield i, part
            position += len(block)
            if position >= end:
                break
