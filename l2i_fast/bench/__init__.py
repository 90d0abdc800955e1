"""Benchmarks: ours beside the strongest peers and the machine's limits. The command is `l2i bench`."""
