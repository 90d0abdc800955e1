"""A classifier's logits together with the outputs of some of its layers."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class HiddenMaps:
    """Runs a network and collects the outputs of named layers.

    Parameters
    ----------
    network : nn.Module
        Any network that returns a tensor of logits.
    layers : sequence of str
        Names of submodules, as in ``network.named_modules()``; each must return one tensor.

    Raises
    ------
    ValueError
        A name of no submodule.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        modules = dict(network.named_modules())
        for name in layers:
            if name not in modules:
                known = ", ".join(sorted(filter(None, modules)))
                raise ValueError(f"layers names {name!r}, but must name submodules of the network: {known}")
        self.network = network
        self.layers = tuple(layers)
        # Per thread: several threads may run the same network at once.
        self._local = threading.local()
        for name in self.layers:
            modules[name].register_forward_hook(functools.partial(self._keep, name))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _local=threading.local())

    def _keep(self, name: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        maps = getattr(self._local, "maps", None)
        if maps is not None:
            maps[name] = output

    def __call__(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits of `x` and the maps in the order of `layers`."""
        maps: dict[str, Tensor] = {}
        self._local.maps = maps
        try:
            logits: Tensor = self.network(x)
        finally:
            self._local.maps = None
        return logits, [maps[name] for name in self.layers]
