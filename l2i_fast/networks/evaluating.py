"""Evaluation mode for as long as a network runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from l2i_fast import forks

# Modules held in evaluation mode that are set to training, and the number of runs that hold them.
_held: Counter[nn.Module] = Counter()
_lock = forks.lock()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Hold a network in evaluation mode, and give its modules their modes back at the end.

    Several threads may hold a network at once: the modes come back with the last of them.
    """
    with _lock:
        training = [module for module in network.modules() if module.training or module in _held]
        _held.update(training)
        for module in training:
            module.training = False
    try:
        yield
    finally:
        with _lock:
            for module in training:
                _held[module] -= 1
                if not _held[module]:
                    del _held[module]
                    module.training = True
