"""Run the command `l2i` as `python -m l2i_fast`."""

from l2i_fast.cli import main

main()
