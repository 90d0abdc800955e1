"""Write a data set of synthesised sounds in ESC-50's layout: python synthesised_clips.py FOLDER [CLIPS_PER_CLASS].

It holds two folds, and seven of the classes that the model esc10 knows: something to try `l2i evaluate` on without
recordings of your own.
"""

import csv
import sys
from pathlib import Path

import numpy as np

from l2i_fast.audio import write_audio
from l2i_fast.data.scene import SOUNDS

RATE = 44100

if len(sys.argv) < 2:
    sys.exit(__doc__)
folder, n = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2
(folder / "audio").mkdir(parents=True)
(folder / "meta").mkdir()
with (folder / "meta" / "esc50.csv").open("w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["filename", "fold", "target", "category", "esc10"])
    for target, (name, make) in enumerate(SOUNDS.items()):
        for take in range(n):
            y = make(RATE, 5.0, np.random.default_rng(take))
            path = folder / "audio" / f"{name}-{take}.wav"
            write_audio(path, y, RATE)
            table.writerow([path.name, 1 + take % 2, target, name, True])
