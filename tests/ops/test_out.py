"""`out=` gives the bits of a call without it, in the caller's memory, and unsuitable memory is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import l2i_fast as l2i
from l2i_fast import _core
from l2i_fast.ops.analyze import Spectra
from l2i_fast.settings import DOMAINS

from ..helpers import refused

OPERATIONS = ("stft", "istft", "log_mel", "log_mel of samples", "soft_mask", "decode", "analyze")
KINDS: dict[str, Callable[[Any], Any]] = {"NumPy": np.asarray, "torch": torch.from_numpy}


def call(
    name: str, rng: np.random.Generator, kind: str = "NumPy", n_fft: int = 64, T: int = 19, lead: tuple[int, ...] = ()
) -> partial[Any]:
    """An operation with random operands, all of one kind; arguments of the call replace them."""
    F, K, hop = n_fft // 2 + 1, 5, n_fft // 4
    y = rng.standard_normal((*lead, hop * (T - 1) + 3)).astype(np.float32)
    X = rng.standard_normal((*lead, T, F)) + 1j * rng.standard_normal((*lead, T, F))
    H = rng.random((*lead, K, T), np.float32)
    samples = {"y": y, "n_fft": n_fft, "hop_length": hop}
    mel = {"sr": 8000, "n_mels": 3, "fmin": 300.0, "top_db": 40.0}
    spectrum = {"X": X.astype(np.complex64).swapaxes(-1, -2)}
    parts = spectrum | {"W": rng.random((F, K), np.float32), "H": H, "weights": rng.random(K, np.float32)}
    operands: dict[str, dict[str, Any]] = {
        "stft": samples,
        "istft": spectrum | {"hop_length": hop, "n_fft": n_fft},
        "log_mel": {"X_or_y": spectrum["X"], "n_fft": n_fft} | mel,
        "log_mel of samples": {"X_or_y": y, "n_fft": n_fft, "hop_length": hop} | mel,
        "soft_mask": parts,
        "decode": parts | {"hop_length": hop, "n_fft": n_fft},
        "analyze": samples | mel,
    }
    made = {key: KINDS[kind](x) if isinstance(x, np.ndarray) else x for key, x in operands[name].items()}
    return partial(getattr(l2i, name.split()[0]), **made)


def parts_of(answer: Any) -> tuple[Any, ...]:
    return tuple(answer) if isinstance(answer, tuple) else (answer,)


def dirty(answer: Any) -> Any:
    """Memory like an answer's, full of NaN."""
    if isinstance(answer, tuple):
        return tuple(dirty(part) for part in answer)
    return torch.full_like(answer, np.nan) if isinstance(answer, torch.Tensor) else np.full_like(answer, np.nan)


def bits(answer: Any) -> list[bytes]:
    return [np.asarray(part).tobytes() for part in parts_of(answer)]


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("n_fft", "T", "lead"),
    [(1024, 41, ()), (64, 1, ()), (32, 17, (2, 3)), (60, 33, (2,)), (64, 9, (1, 1)), (64, 5, (0,))],
)
def test_is_filled_with_the_same_bits_and_returned(
    name: str, kind: str, n_fft: int, T: int, lead: tuple[int, ...], rng: np.random.Generator, cpu_path: str
) -> None:
    operation = call(name, rng, kind, n_fft, T, lead)
    expected = operation()
    out = dirty(expected)
    answer = operation(out=out)
    assert bits(answer) == bits(expected)
    for one, kept in zip(parts_of(answer), parts_of(out), strict=True):
        assert one is kept
    assert type(answer) is type(expected)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_buffer_serves_several_signals(name: str, kind: str, rng: np.random.Generator) -> None:
    calls = [call(name, rng, kind) for _ in range(3)]
    expected = [bits(each()) for each in calls]
    out = calls[0]()
    for each, wanted in zip(calls, expected, strict=True):
        assert bits(each(out=out)) == wanted


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(OPERATIONS),
    st.sampled_from(sorted(KINDS)),
    st.integers(4, 140),
    st.integers(1, 40),
    st.lists(st.integers(1, 3), max_size=2),
    st.integers(0, 99),
)
def test_any_shape(name: str, kind: str, half: int, T: int, lead: list[int], seed: int) -> None:
    operation = call(name, np.random.default_rng(seed), kind, 2 * half, T, tuple(lead))
    expected = operation()
    assert bits(operation(out=dirty(expected))) == bits(expected)


def test_several_lengths_share_a_long_array(rng: np.random.Generator) -> None:
    long = np.empty((100, 33), np.complex64).T
    for T in (100, 1, 37):
        operation = call("stft", rng, T=T)
        assert bits(operation(out=long[:, :T])) == bits(operation())


def test_memory_may_be_a_mapped_file(tmp_path: Any, rng: np.random.Generator) -> None:
    operation = call("stft", rng)
    expected = operation()
    out = np.memmap(tmp_path / "X", np.complex64, "w+", shape=expected.shape[::-1]).T
    assert operation(out=out) is out
    assert bits(out) == bits(expected)


def test_threads_fill_it_together(rng: np.random.Generator) -> None:
    operation = call("analyze", rng, n_fft=1024, T=3000)
    expected = operation()
    before = l2i.get_num_threads()
    l2i.set_num_threads(3)
    try:
        assert bits(operation(out=dirty(expected))) == bits(expected)
    finally:
        l2i.set_num_threads(before)


# ---- in place


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(
    ("n_fft", "T", "lead"),
    [(1024, 43, ()), (2, 9, ()), (64, 16, (3,)), (60, 33, (2, 2)), (20, 1, (1,)), (512, 2000, ())],
)
def test_a_spectrum_is_masked_in_place(
    kind: str, domain: str, n_fft: int, T: int, lead: tuple[int, ...], rng: np.random.Generator, cpu_path: str
) -> None:
    operation = call("soft_mask", rng, kind, n_fft, T, lead)
    expected = bits(operation(domain=domain))
    X = dirty(operation())
    for out in (X, X[:]):  # the same memory
        X[...] = operation.keywords["X"]
        assert operation(X=X, out=out, domain=domain) is out
        assert bits(X) == expected


def test_an_overlap_by_a_frame_is_refused(rng: np.random.Generator) -> None:
    operation = call("soft_mask", rng, T=9)
    long = np.ones((10, 33), np.complex64).T
    for X, out in ((long[:, 1:], long[:, :-1]), (long[:, :-1], long[:, 1:])):
        with refused(ValueError, "out shares memory with X, but must have memory of its own"):
            operation(X=X, out=out)
    np.testing.assert_array_equal(long, 1)
    with refused(ValueError, "out shares memory with X, but ..."):  # one X for two rows of weights
        operation(X=long[:, :9], weights=np.ones((1, 5)), out=long[:, :9][None])


# ---- refused


def frozen(out: Any) -> Any:
    out.flags.writeable = False
    return out


def unaligned(out: Any) -> Any:
    store = np.zeros(out.nbytes + 1, np.uint8)
    return store[1:].view(out.dtype).reshape(out.shape[::-1]).T


IN_NUMPY: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "a tensor": (torch.from_numpy, TypeError, "is Tensor, but ndarray is needed"),
    "a list": (lambda out: out.tolist(), TypeError, "is list, but ndarray is needed"),
    "double": (lambda out: out * np.float64(1), TypeError, "has dtype"),
    "byte order": (lambda out: out.astype(out.dtype.newbyteorder()), TypeError, "has dtype"),
    "shorter": (lambda out: out[..., 1:], ValueError, "has shape"),
    "longer": (lambda out: np.resize(out, (*out.shape[:-1], out.shape[-1] + 1)), ValueError, "has shape"),
    "batch": (lambda out: out[None], ValueError, "has shape"),
    "gaps": (lambda out: np.repeat(out.T, 2, -1)[..., ::2].T, ValueError, "is not laid out as an answer is"),
    "rows apart": (lambda out: np.tile(out.T, 2)[..., ::2].T, ValueError, "is not laid out as an answer is"),
    "reversed": (lambda out: out[..., ::-1], ValueError, "is not laid out as an answer is"),
    "one number": (lambda out: np.broadcast_to(out[..., :1], out.shape), ValueError, "is not laid out as an answer is"),
    "unaligned": (unaligned, ValueError, "is not laid out as an answer is"),
    "read-only": (frozen, ValueError, "is read-only, but must be writeable"),
}
IN_TORCH: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "an array": (lambda out: out.numpy(), TypeError, "is ndarray, but Tensor is needed"),
    "double": (lambda out: out * torch.ones(1, dtype=torch.float64), TypeError, "has dtype torch"),
    "half": (lambda out: out.abs().bfloat16(), TypeError, "has dtype torch.bfloat16"),
    "shorter": (lambda out: out[..., 1:], ValueError, "has shape"),
    "gaps": (lambda out: out.repeat_interleave(2, -1)[..., ::2], ValueError, "is not laid out as an answer is"),
    "one number": (lambda out: out[..., :1].expand(out.shape), ValueError, "is not laid out as an answer is"),
    "lazy": (lambda out: out.conj() if out.is_complex() else torch._neg_view(out), ValueError, "is not laid out"),
    "requires grad": (lambda out: out.requires_grad_(), ValueError, "requires grad, which is not supported here"),
    "elsewhere": (lambda out: out.to("meta"), ValueError, "is on meta, but must be on the CPU"),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(
    ("kind", "fault"), [*(("NumPy", fault) for fault in IN_NUMPY), *(("torch", fault) for fault in IN_TORCH)]
)
def test_an_unsuitable_out_is_refused(name: str, kind: str, fault: str, rng: np.random.Generator) -> None:
    operation = call(name, rng, kind)
    spoil, error, message = (IN_NUMPY if kind == "NumPy" else IN_TORCH)[fault]
    expected = operation()
    for i in range(len(parts_of(expected))):
        parts = [dirty(part) for part in parts_of(expected)]
        memory = [np.asarray(part) for part in parts]
        before = [part.tobytes() for part in memory]
        parts[i] = spoil(parts[i])
        spoilt = parts[i].tobytes() if isinstance(parts[i], np.ndarray) else None
        of = f"{Spectra._fields[i]} of out" if name == "analyze" else "out"
        with refused(error, f"{of} {message}..."):
            operation(out=tuple(parts) if name == "analyze" else parts[0])
        assert [part.tobytes() for part in memory] == before
        assert spoilt is None or parts[i].tobytes() == spoilt


@pytest.mark.parametrize("name", ["stft", "decode"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_message_suggests_an_array_that_fits(name: str, kind: str, rng: np.random.Generator) -> None:
    operation = call(name, rng, kind, lead=(2,))
    spoil, *_ = (IN_NUMPY if kind == "NumPy" else IN_TORCH)["gaps"]
    expected = operation()
    with refused(ValueError, "out is not laid out as an answer is: pass an earlier answer, or ...") as caught:
        operation(out=spoil(expected))
    _, advice = str(caught.value).split("answer, or ")
    assert bits(operation(out=eval(advice, {"numpy": np, "torch": torch}))) == bits(expected)


@pytest.mark.parametrize("out", [np.zeros((3, 33, 19)), [], (None, None, None), (np.zeros(1),) * 2])
def test_analyze_needs_three(out: Any, rng: np.random.Generator) -> None:
    with refused(TypeError, "out is ..., but a tuple of three arrays, X, V and log_mel, is needed"):
        call("analyze", rng)(out=out)


def test_parts_may_not_share_memory(rng: np.random.Generator) -> None:
    operation = call("analyze", rng, T=19)
    X, V, mel = operation()
    for name, numbers, out in (
        ("V of out shares memory with X", X, lambda of: (X, of[: V.size].reshape(19, 33).T, mel)),
        ("log_mel of out shares memory with X", X, lambda of: (X, V, of[-mel.size :].reshape(19, 3).T)),
        ("log_mel of out shares memory with V", V, lambda of: (X, V, of[: mel.size].reshape(19, 3).T)),
    ):
        before = bits((X, V, mel))
        with refused(ValueError, f"{name}, but must have memory of its own"):
            operation(out=out(numbers.T.reshape(-1).view(np.float32)))
        assert bits((X, V, mel)) == before


def test_one_array_is_not_two_parts(rng: np.random.Generator) -> None:
    operation = partial(call("analyze", rng), n_mels=33)
    X, V, _ = operation()
    with refused(ValueError, "log_mel of out shares memory with V, but must have memory of its own"):
        operation(out=(X, V, V))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_inputs_are_not_overwritten(name: str, kind: str, rng: np.random.Generator) -> None:
    operation = call(name, rng)
    answer = parts_of(operation())
    arrays = {key: operand for key, operand in operation.keywords.items() if isinstance(operand, np.ndarray)}
    for i, part in enumerate(answer):
        for key, operand in arrays.items():
            # The input begins in the last number of this part.
            store = np.zeros(part.nbytes + operand.nbytes, np.uint8)
            out = store[: part.nbytes].view(part.dtype).reshape(part.T.shape).T
            first = part.nbytes - operand.itemsize
            other = store[first : first + operand.nbytes].view(operand.dtype).reshape(operand.T.shape).T
            other[...] = operand
            before = store.tobytes()
            operands = {k: KINDS[kind](x) for k, x in (arrays | {key: other}).items()}
            parts = [KINDS[kind](x) for x in (*answer[:i], out, *answer[i + 1 :])]
            with refused(ValueError, f"...out shares memory with {key}, but must have memory of its own"):
                operation(**operands, out=tuple(parts) if name == "analyze" else parts[0])
            assert store.tobytes() == before


def test_memory_between_the_inputs_may_be_written(rng: np.random.Generator) -> None:
    pool = rng.standard_normal((5, 19, 33, 2)).astype(np.float32).view(np.complex64)[..., 0].swapaxes(-1, -2)
    operation = partial(call("soft_mask", rng, T=19), X=pool[::3])
    expected = operation()
    assert bits(operation(out=pool[1:3])) == bits(expected)


NAN = np.full(300, np.nan, np.float32)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("stft", {"y": NAN}, "y holds NaN or infinity, but finite samples are needed"),
        ("stft", {"n_fft": 1}, "n_fft is 1, but must be at least 2"),
        ("stft", {"window": "nonesuch"}, "...window..."),
        ("istft", {"hop_length": 0}, "hop_length is 0, but must be at least 1"),
        ("log_mel", {"amin": 0.0}, "amin is 0.0, but must be positive, and a normal number as float32"),
        ("log_mel", {"n_fft": 62}, "X has 33 bins, but n_fft=62 has 32"),
        ("log_mel of samples", {"X_or_y": NAN}, "y holds NaN or infinity, but finite samples are needed"),
        ("soft_mask", {"H": np.full((5, 19), -1.0)}, "H holds negative numbers, NaN or infinity, but ..."),
        (
            "soft_mask",
            {"weights": np.full(5, 2.0)},
            "weights holds numbers outside [0, 1] or NaN, but all must lie in [0, 1]",
        ),
        ("soft_mask", {"eps": 0.0}, "eps is 0.0, but must be positive, and a normal number as float32"),
        ("decode", {"W": np.full((33, 5), np.nan)}, "W holds negative numbers, NaN or infinity, but ..."),
        ("decode", {"hop_length": 0}, "hop_length is 0, but must be at least 1"),
        ("analyze", {"y": NAN}, "y holds NaN or infinity, but finite samples are needed"),
        ("analyze", {"top_db": -1.0}, "top_db is -1.0, but must be at least 0"),
        ("analyze", {"n_mels": 0}, "n_mels is 0, but must be at least 1"),
    ],
)
def test_nothing_is_written_if_another_argument_is_wrong(
    name: str, wrong: dict[str, Any], message: str, rng: np.random.Generator
) -> None:
    operation = call(name, rng)
    out = dirty(operation())
    before = bits(out)
    with refused(ValueError, message):
        operation(out=out, **wrong)
    assert bits(out) == before


# ---- torch


@pytest.mark.parametrize("name", ["soft_mask", "decode"])
@pytest.mark.parametrize("key", ["H", "weights"])
def test_gradients_need_memory_of_their_own(name: str, key: str, rng: np.random.Generator) -> None:
    operation = call(name, rng, "torch")
    expected = operation()
    out = dirty(expected)
    before = bits(out)
    operation.keywords[key].requires_grad_()
    with refused(ValueError, "out is given, but H or weights require grad: leave it out, or call within..."):
        operation(out=out)
    assert bits(out) == before
    with torch.no_grad():
        assert bits(operation(out=out)) == bits(expected)


@pytest.mark.parametrize("name", ["stft", "soft_mask"])
def test_autograd_notices_that_an_input_is_overwritten(name: str, rng: np.random.Generator) -> None:
    operation = call("soft_mask", rng, "torch")
    X, H = operation.keywords["X"].mT.contiguous().mT, operation.keywords["H"].clone().requires_grad_()
    operation(X=X, H=H).abs().sum().backward()
    loss = operation(X=X, H=H).abs().sum()
    call(name, rng, "torch")(out=X)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("name", OPERATIONS)
def test_is_refused_by_gpu_backends(name: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = call(name, rng, "torch")
    out = operation()
    before = bits(out)
    monkeypatch.setenv("L2I_BACKEND", "torch")
    with refused(ValueError, "out is given, but operations on a GPU allocate their answers: leave it out"):
        operation(out=out)
    assert bits(out) == before


# ---- the native module


def test_bindings_refuse_an_unsuitable_out() -> None:
    y, window = np.ones((1, 100), np.float32), np.ones(64, np.float32)
    X = np.ones((1, 3, 33), np.complex64)
    assert _core.stft(y, window, 18, 0, X) is X
    read_only = X.copy()
    read_only.flags.writeable = False
    wrong: list[Any] = [
        X.astype(np.complex128), X[0], X[:, :2].copy(), np.ones((2, 3, 33), np.complex64), X.repeat(2, 2)[..., ::2],
        read_only, unaligned(X.T).T, X.tolist(),
    ]  # fmt: skip
    for out in wrong:
        with refused(ValueError, "out must be a contiguous, aligned and writeable array of the answer's shape and..."):
            _core.stft(y, window, 18, 0, out)
