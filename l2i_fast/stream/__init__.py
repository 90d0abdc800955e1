"""Streams: the interpretation of live signals as they arrive."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from l2i_fast.forks import importing
from l2i_fast.stream.decoder import StreamDecoder

if TYPE_CHECKING:
    from l2i_fast.stream.pool import PooledStream, StreamPool
    from l2i_fast.stream.refresh import Refresh, StreamSettings, StreamStatistics
    from l2i_fast.stream.stream import Stream

__all__ = ["PooledStream", "Refresh", "Stream", "StreamDecoder", "StreamPool", "StreamSettings", "StreamStatistics"]

# Names that need torch are imported on first use.
_MODULES = {
    "PooledStream": "pool",
    "Refresh": "refresh",
    "Stream": "stream",
    "StreamPool": "pool",
    "StreamSettings": "refresh",
    "StreamStatistics": "refresh",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        with importing:
            module = import_module(f"l2i_fast.stream.{_MODULES[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
