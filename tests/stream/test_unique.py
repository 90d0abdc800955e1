"""Streams hold native state of their own: copies and pickles are refused, whatever kind of stream it is."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import l2i_fast as l2i
from l2i_fast.model import L2I

from ..helpers import refused

W = np.ones((513, 2), np.float32)
STREAMS: dict[str, Callable[[L2I], Any]] = {
    "Stream": lambda model: model.stream(),
    "StreamPool": lambda model: model.stream_pool(1),
    "PooledStream": lambda model: model.stream_pool(1).streams[0],
    "StreamDecoder": lambda _: l2i.StreamDecoder(W),
    "DeviceStreams": lambda _: l2i.DeviceStreams(W, 1, device="cpu"),
}


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_is_neither_copied_nor_pickled(kind: str, copied: Callable[[Any], Any], tiny_model: L2I) -> None:
    reason = "cannot be copied or pickled, but another one can be made with the same arguments"
    with refused(TypeError, f"a {kind} {reason}"):
        copied(STREAMS[kind](tiny_model))
