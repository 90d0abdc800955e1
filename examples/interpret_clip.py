"""Interpret a network's prediction for a recording: python interpret_clip.py clip.wav [folder]."""

import sys

import l2i_fast as l2i

if len(sys.argv) < 2:
    sys.exit(__doc__)
clip, folder = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "out"

try:
    result = l2i.load("esc10").interpret(clip)
except (OSError, ValueError) as error:  # one line that says what is wrong
    sys.exit(str(error))
print("heard:", ", ".join(result.prediction))
for component in result.components:
    print(f"component {component:3} speaks for it, relevance {result.relevance[component]:.2f}")
print("listen to:", *result.save(folder), sep="\n  ")
