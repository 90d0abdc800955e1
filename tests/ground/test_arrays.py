"""What counts as an array: every front takes the same kinds of arrays, and refuses the others in one sentence."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

import l2i_fast as l2i
from l2i_fast.arrays import to_numpy
from l2i_fast.audio import as_mono_float32
from l2i_fast.stream import StreamDecoder

from ..helpers import refused


class Exchanged:
    """An array of a library that offers `__dlpack__` and nothing else."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __dlpack__(self, **options: Any) -> Any:
        return self.x.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.x.__dlpack_device__()


TAKEN: dict[str, Callable[[np.ndarray], Any]] = {
    "memory exchanged by DLPack": Exchanged,
    "array of the standard library": lambda x: array.array("f", x.tobytes()),
    "buffer": memoryview,
    "other byte order": lambda x: x.astype(">f4"),
    "read-only view": lambda x: np.broadcast_to(x, x.shape),
    "list": lambda x: x.tolist(),
    "tuple of tensors": lambda x: tuple(torch.from_numpy(x)),
    "series": pd.Series,
    "nullable series": lambda x: pd.Series(x, dtype="Float64"),
    "subclass": lambda x: x.view(np.recarray),
    "masked array without masked values": lambda x: np.ma.array(x, mask=np.zeros(x.size, bool)),
    "list of masked arrays without masked values": lambda x: list(np.ma.array(x).reshape(-1, 1)),
}

MASKED = "masked values, but all values are needed: pass ....filled(...)"
#: What is refused, and the sentence behind the argument's name.
REFUSED: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "masked array": (lambda x: np.ma.array(x, mask=x > x.max() / 2), f"has ... {MASKED}"),
    "list of masked arrays": (lambda x: [np.ma.array(x, mask=x == x[3])], f"has 1 {MASKED}"),
    "ragged list": (lambda x: [x, x[1:]], "is list, but an array of numbers or a tensor is needed"),
    "sparse matrix": (scipy.sparse.csr_array, "is csr_array, but an array of numbers or a tensor is needed"),
    "generator": (iter, "is ..., but an array of numbers or a tensor is needed"),
    "text": (str, "is str, but an array of numbers or a tensor is needed"),
    "sparse tensor": (lambda x: torch.from_numpy(x).to_sparse(), "is a sparse_coo tensor, but a dense one is needed"),
    "quantised tensor": (
        lambda x: torch.quantize_per_tensor(torch.from_numpy(x), 0.1, 0, torch.qint8),
        "is a quantised tensor, but a dense one is needed",
    ),
    "nested tensor": (
        lambda x: torch.nested.nested_tensor([torch.from_numpy(x)] * 2, layout=torch.jagged),
        "is a nested tensor, but a dense one is needed",
    ),
    "tensor that requires grad": (
        lambda x: torch.from_numpy(x).requires_grad_(),
        "requires grad, which is not supported here: pass ....detach()",
    ),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_all_kinds_of_arrays_are_heard_alike(kind: str, rng: np.random.Generator) -> None:
    y = rng.standard_normal(1500).astype(np.float32)
    x = TAKEN[kind](y)
    np.testing.assert_array_equal(to_numpy(x, "x").ravel(), y)
    x = x if not kind.startswith("list of masked") else [part.reshape(()) for part in x]
    np.testing.assert_array_equal(l2i.stft(x), l2i.stft(y))
    np.testing.assert_array_equal(as_mono_float32(x), y)
    W = rng.random((513, 3))
    one, other = StreamDecoder(W), StreamDecoder(W)
    np.testing.assert_array_equal(one.push(x), other.push(y))
    np.testing.assert_array_equal(one.flush(), other.flush())


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("ignore:.*(deprecated|prototype)")  # torch's own, of quantised and nested tensors
def test_what_is_no_array_of_numbers_is_refused_everywhere(kind: str, rng: np.random.Generator) -> None:
    make, reason = REFUSED[kind]
    y = rng.random(1500, np.float32)
    x, decoder = make(y), StreamDecoder(rng.random((513, 3)))
    for name, call in {"y": l2i.stft, "block": decoder.push, "V": lambda x: l2i.learn_dictionary(x, 2)}.items():
        if name == "V" and isinstance(x, list | str):
            continue  # a sequence of spectrograms
        with refused((TypeError, ValueError), f"{name} {reason}"):
            call(x)
    if kind != "tensor that requires grad":  # recordings are read without it
        with refused((TypeError, ValueError), f"samples {reason}"):
            as_mono_float32(x)
    assert not decoder.push(y)[:1024].any()  # nothing was taken


def test_masked_values_are_refused_wherever_numbers_enter(rng: np.random.Generator) -> None:
    def masked(*shape: int) -> Any:
        x = rng.random(shape, np.float32)
        return np.ma.array(x, mask=x == x.max())

    W, V, decoder = rng.random((513, 2)), rng.random((513, 9)), StreamDecoder(rng.random((513, 2)))
    block = np.zeros(512, np.float32)
    calls: dict[str, Callable[[], Any]] = {
        "W": lambda: StreamDecoder(masked(513, 2)),
        "H": lambda: decoder.push(block, H=masked(2, decoder.frames_in(512))),
        "start": lambda: setattr(decoder, "start", masked(2)),
        "weights": lambda: setattr(decoder, "weights", masked(2)),
        "window": lambda: l2i.stft(block, window=masked(1024)),
        "H0": lambda: l2i.activations(V, W, H0=masked(2, 9)),
        "known": lambda: l2i.learn_dictionary(V, 2, known=masked(513, 1)),
        "each spectrogram": lambda: l2i.learn_dictionary([V, masked(513, 9)], 2),
        "each block": lambda: l2i.learn_dictionary_online([masked(513, 9)], 2),
        "X": lambda: l2i.NMF(2).fit(masked(9, 5)),
        "mask": lambda: l2i.NMF(2).fit(V, mask=masked(513, 9)),
    }
    for name, call in calls.items():
        with refused(ValueError, f"{name} has 1 masked values, but all values are needed: pass {name}.filled(...)"):
            call()


def test_an_estimator_takes_what_only_speaks_dlpack(rng: np.random.Generator) -> None:
    X = rng.random((12, 7), np.float32)
    W = l2i.NMF(2, random_state=0, max_iter=5, tol=0).fit_transform(X)
    other = l2i.NMF(2, random_state=0, max_iter=5, tol=0).fit_transform(Exchanged(X))  # type: ignore[arg-type]
    np.testing.assert_array_equal(other, W)


def test_a_tensor_within_a_transform_of_functions_is_refused() -> None:
    with refused(TypeError, "y is Tensor without memory to read, but a plain tensor is needed"):
        torch.func.vmap(l2i.stft)(torch.rand(2, 2000))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_tensors_that_numpy_has_no_dtype_for_are_float32(dtype: torch.dtype) -> None:
    x = torch.tensor([0.5, -1.0, 0.25]).to(dtype)
    np.testing.assert_array_equal(as_mono_float32(x), x.float())
    np.testing.assert_array_equal(l2i.stft(x), l2i.stft(x.float()))
