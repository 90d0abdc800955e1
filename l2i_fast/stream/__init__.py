"""Streams: sound in and its interpretation out while it happens."""

from l2i_fast.stream.decoder import StreamDecoder

__all__ = ["StreamDecoder"]
