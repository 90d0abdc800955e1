"""Streams: sound in and its interpretation out while it happens."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from l2i_fast.stream.decoder import StreamDecoder

if TYPE_CHECKING:
    from l2i_fast.stream.hearing import Refresh, StreamSettings, StreamStatistics
    from l2i_fast.stream.pool import PooledStream, StreamPool
    from l2i_fast.stream.stream import Stream

__all__ = ["PooledStream", "Refresh", "Stream", "StreamDecoder", "StreamPool", "StreamSettings", "StreamStatistics"]

# What needs torch is imported when it is asked for.
_MODULES = {
    "PooledStream": "pool",
    "Refresh": "hearing",
    "Stream": "stream",
    "StreamPool": "pool",
    "StreamSettings": "hearing",
    "StreamStatistics": "hearing",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"l2i_fast.stream.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
