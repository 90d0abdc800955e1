"""A model is copied, pickled, shared with processes and changed, and its dictionary is that of its interpreter."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch

import l2i_fast as l2i
from l2i_fast.model import L2I, TorchNetwork

from ..conftest import make_model

COPIES: dict[str, Callable[[L2I], L2I]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}


def heard(model: L2I, y: np.ndarray) -> np.ndarray:
    with model.stream(mode="synchronous") as stream:
        answer = stream.push(y, last=True)
        assert stream.error is None
    return answer


@pytest.fixture
def y(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(70001).astype(np.float32)


@pytest.mark.parametrize("kind", COPIES)
def test_copies_answer_alike_and_leave_the_model_whole(kind: str, y: np.ndarray) -> None:
    model = make_model(streamable=True)
    audio, stream, W = model.interpret((y, 44100)).audio, heard(model, y), model.dictionary
    for one in (COPIES[kind](model), model):
        np.testing.assert_array_equal(one.interpret((y, 44100)).audio, audio)
        np.testing.assert_array_equal(heard(one, y), stream)
        np.testing.assert_array_equal(one.dictionary, W)


def test_a_model_that_another_process_has_received_answers_alike_there_and_here(y: np.ndarray) -> None:
    model = make_model()
    result = model.interpret((y, 44100))
    W, audio = result.dictionary.copy(), result.audio.copy()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply_async(model.interpret, [(y, 44100)]).get(120)
    np.testing.assert_array_equal(model.dictionary, W)
    np.testing.assert_array_equal(result.dictionary, W)
    np.testing.assert_array_equal(model.interpret((y, 44100)).audio, audio)
    np.testing.assert_allclose(there.audio, audio, atol=1e-5 * np.abs(audio).max())


def test_memory_that_torch_moves_is_not_looked_into(y: np.ndarray) -> None:
    model = make_model(streamable=True)
    result, audio = model.interpret((y, 44100)), heard(model, y)
    W, expected = result.dictionary.copy(), result.audio.copy()
    with model.stream(mode="synchronous") as stream:
        first = stream.push(y[:30000])
        model.interpreter.share_memory()
        assert isinstance(model.network, TorchNetwork)
        model.network.hidden.network.share_memory()
        rubbish = [np.full(W.shape, np.nan, np.float32) for _ in range(64)]  # where the memory was
        np.testing.assert_array_equal(np.concatenate((first, stream.push(y[30000:], last=True))), audio)
    np.testing.assert_array_equal(result.dictionary, W)
    np.testing.assert_array_equal(model.dictionary, W)
    np.testing.assert_array_equal(model.interpret((y, 44100)).audio, expected)
    assert len(rubbish) == 64


@pytest.mark.parametrize("change", ["in place", "data", "loaded", "assigned", "through NumPy"])
def test_the_dictionary_is_the_interpreters_after_every_change(change: str, y: np.ndarray) -> None:
    model, other = make_model(), make_model(seed=1)
    W = other.dictionary
    parameter = model.interpreter.dictionary
    if change == "in place":
        parameter.copy_(torch.from_numpy(W))
    elif change == "data":
        parameter.data = torch.from_numpy(W.copy())
    elif change == "through NumPy":
        parameter.numpy()[...] = W
    else:
        model.interpreter.load_state_dict(
            {"dictionary": torch.from_numpy(W)}, strict=False, assign=change == "assigned"
        )
    np.testing.assert_array_equal(model.dictionary, W)
    result = model.interpret((y, 44100))
    np.testing.assert_array_equal(result.dictionary, W)
    weights = np.isin(np.arange(W.shape[1]), result.components).astype(np.float32)
    scale = np.abs(y).max()
    expected = scale * l2i.decode(l2i.stft(y / scale), W, result.activations, weights, length=len(y))
    np.testing.assert_allclose(result.audio, expected, atol=1e-5 * scale)


def test_a_copy_of_the_dictionary_is_the_callers_own(tiny_model: L2I) -> None:
    W = tiny_model.dictionary
    W[...] = 0
    assert tiny_model.dictionary.any()


def test_results_are_pickled(tiny_model: L2I, y: np.ndarray) -> None:
    result = tiny_model.interpret((y, 44100))
    again = pickle.loads(pickle.dumps(result))
    assert again.to_dict() == result.to_dict()
    np.testing.assert_array_equal(again.audio, result.audio)
