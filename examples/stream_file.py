"""Interpret a recording block by block, like a live signal: python stream_file.py clip.wav [out.wav]."""

import sys

import numpy as np

import l2i_fast as l2i
from l2i_fast.audio import read_audio, write_audio

if len(sys.argv) < 2:
    sys.exit(__doc__)
clip, target = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "heard.wav"

model = l2i.load("esc10")
try:
    y, rate = read_audio(clip, model.sample_rate)
except (OSError, ValueError) as error:  # one line that says what is wrong
    sys.exit(str(error))
heard, parts = (), []
with model.stream(mode="synchronous") as stream:  # use "realtime" for live sound
    for start in range(0, len(y), 512):
        parts.append(stream.push(y[start : start + 512]))
        if stream.prediction != heard:
            heard = stream.prediction
            print(f"{start / rate:6.2f} s  {', '.join(heard)}  because of components {stream.latest.components}")
    parts.append(stream.flush())
print("listen to:", write_audio(target, np.concatenate(parts)[stream.latency :], rate))
