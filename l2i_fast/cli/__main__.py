"""Run the command `l2i` as `python -m l2i_fast.cli`."""

from l2i_fast.cli import main

main()
