"""`python -m l2i_fast.cli` is the `l2i` command."""

from l2i_fast.cli import main

main()
