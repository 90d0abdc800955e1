"""A classifier's logits together with the outputs of some of its layers."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from l2i_fast.networks.evaluating import evaluating


class HiddenMaps:
    """Runs a network in evaluation mode and collects the outputs of named layers.

    The network has its hooks only while it runs, so nothing of this object stays with it.

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
        self._modules = {name: modules[name] for name in layers}

    def __call__(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits of `x` and the maps in the order of `layers`."""
        maps: dict[str, Tensor] = {}
        caller = threading.get_ident()

        def keep(name: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if threading.get_ident() == caller:  # other threads may run the same network at once
                maps[name] = output

        hooks = [layer.register_forward_hook(functools.partial(keep, name)) for name, layer in self._modules.items()]
        try:
            with evaluating(self.network):
                logits: Tensor = self.network(x)
        finally:
            for hook in hooks:
                hook.remove()
        if missing := [name for name in self.layers if name not in maps]:
            raise ValueError(f"layers names {missing[0]!r}, but must name submodules that the network runs")
        return logits, [maps[name] for name in self.layers]
