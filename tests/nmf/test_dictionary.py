"""Dictionary learning and activations against the float64 reference, and their properties."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import l2i_fast as l2i
from l2i_fast import activations, learn_dictionary, learn_dictionary_online, reference
from l2i_fast.data import Dataset
from l2i_fast.nmf.factorize import beta_of

from ..helpers import refused

BETAS = [2.0, 1.0, 0.0, 0.5, 1.5, 3.0]


def problem(rng: np.random.Generator, F: int = 23, K: int = 4, T: int = 37) -> tuple[np.ndarray, np.ndarray]:
    """V that a sparse factorisation explains, and a unit-norm dictionary."""
    W = rng.random((F, K)) ** 3 + 1e-3
    H = rng.random((K, T)) * (rng.random((K, T)) < 0.4)
    V = W @ H + 0.01 * rng.random((F, T))
    return V.astype(np.float32), (W / np.linalg.norm(W, axis=0)).astype(np.float32)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(("F", "K", "T"), [(23, 4, 37), (1, 1, 1), (513, 7, 3)])
def test_activations_equal_the_reference(beta: float, F: int, K: int, T: int, rng: np.random.Generator) -> None:
    V, W = problem(rng, F, K, T)
    for n_iter, tolerance in ((1, 1e-5), (5, 1e-4)):
        got = activations(V, W, beta, n_iter, sparsity=0.3)
        wanted = reference.activations(V, W, beta, n_iter, sparsity=0.3)
        assert got.dtype == np.float32
        # The floor: W H is kept above 1e-9, which shows where sparsity has driven all activations to zero.
        assert np.linalg.norm(got - wanted) <= tolerance * np.linalg.norm(wanted) + 1e-7


@pytest.mark.parametrize("beta", BETAS)
def test_updates_never_raise_the_objective(beta: float, rng: np.random.Generator) -> None:
    V, W = problem(rng)
    H = activations(V, W, beta, 0)
    before = reference.beta_divergence(V, W @ H, beta)
    for _ in range(15):
        H = activations(V, W, beta, 1, H0=H)
        after = reference.beta_divergence(V, W @ H, beta)
        assert after <= before * (1 + 1e-5)
        before = after


def test_batches_and_warm_starts(rng: np.random.Generator) -> None:
    V, W = problem(rng, T=10)
    batch = np.stack([V, 2 * V, V[::-1]])
    H = activations(batch, W, n_iter=7)
    for v, h in zip(batch, H, strict=True):
        np.testing.assert_allclose(h, activations(np.ascontiguousarray(v), W, n_iter=7), rtol=1e-4, atol=1e-7)
    warm = activations(batch, W, n_iter=4, H0=activations(batch, W, n_iter=3))
    np.testing.assert_allclose(warm, H, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("beta", "solver"), [(2.0, "hals"), (2.0, "newton"), (1.0, "newton"), (0.5, "newton")])
def test_other_solvers_end_where_many_updates_do(beta: float, solver: str, rng: np.random.Generator) -> None:
    V, W = problem(rng, F=40, K=6, T=60)

    def objective(H: np.ndarray) -> float:
        return reference.beta_divergence(V, W @ H, beta) + 0.1 * float(H.sum(dtype=np.float64))

    slow = activations(V, W, beta, 3000, sparsity=0.1)
    fast = activations(V, W, beta, 60, sparsity=0.1, solver=solver)
    assert objective(fast) <= objective(slow) * (1 + 1e-4)


def test_dictionary_has_unit_columns_and_explains(rng: np.random.Generator) -> None:
    errors = []
    for _ in range(7):  # the problem is not convex: a run sometimes ends elsewhere
        V, _ = problem(rng, F=60, K=6, T=400)
        seen: list[tuple[int, int]] = []
        W = learn_dictionary(V, 6, sparsity=0.01, max_iter=150, callback=lambda i, n, d, s=seen: s.append((i, n)))
        assert W.shape == (60, 6)
        assert W.dtype == np.float32
        assert (W >= 0).all()
        np.testing.assert_allclose(np.linalg.norm(W, axis=0), 1, atol=1e-5)
        assert seen == [(i + 1, 150) for i in range(150)]
        errors.append(np.linalg.norm(V - W @ activations(V, W, n_iter=200)) / np.linalg.norm(V))
    assert np.median(errors) < 0.1


@pytest.mark.parametrize("beta", ["kullback-leibler", "itakura-saito", 0.5])
def test_other_divergences_learn_too(beta: float | str, rng: np.random.Generator) -> None:
    ratios = []
    for _ in range(7):  # not convex: a run sometimes ends in a worse optimum
        V, _ = problem(rng, F=40, K=5, T=200)
        start, end = (learn_dictionary(V, 5, beta, sparsity=0.01, max_iter=n) for n in (1, 80))
        fits = [reference.beta_divergence(V, W @ activations(V, W, beta, 100), beta_of(beta)) for W in (start, end)]
        ratios.append(fits[1] / fits[0])
    assert np.median(ratios) < 0.5


def real_spectra(esc10: Dataset, rng: np.random.Generator, n_clips: int) -> np.ndarray:
    """Log magnitudes (F, T) of clips scaled by their peak."""
    picks = rng.choice(len(esc10.clips), n_clips, replace=False)
    clips = [esc10.audio(esc10.clips[i], 44100) for i in picks]
    return np.hstack([np.log1p(np.abs(l2i.stft(y / np.abs(y).max()))) for y in clips])


def fit(V: np.ndarray, W: np.ndarray, beta: float, sparsity: float) -> float:
    """The objective with the best activations."""
    H = activations(V, W, beta, 300, sparsity=sparsity)
    return reference.beta_divergence(V, W @ H, beta) + sparsity * float(H.sum(dtype=np.float64))


@pytest.mark.parametrize("beta", [2.0, 1.0])
def test_learning_from_blocks_nearly_matches_the_whole(beta: float, esc10: Dataset, rng: np.random.Generator) -> None:
    V = real_spectra(esc10, rng, 6)
    V = V[:, rng.permutation(V.shape[1])]
    whole = learn_dictionary(V, 30, beta, max_iter=100)
    blocks = [*np.array_split(V, 6, axis=1), np.zeros((513, 50), np.float32)]
    W = learn_dictionary_online(blocks, 30, beta, n_epochs=5)
    np.testing.assert_allclose(np.linalg.norm(W, axis=0), 1, atol=1e-5)
    assert fit(V, W, beta, 0.8) < 1.1 * fit(V, whole, beta, 0.8)


def test_blocks_may_come_from_an_iterator(rng: np.random.Generator) -> None:
    V, _ = problem(rng, T=90)
    parts = np.array_split(V, 3, axis=1)
    seen: list[tuple[int, int]] = []
    W = learn_dictionary_online(iter(parts), 4, callback=lambda *at: seen.append(at))
    assert np.array_equal(W, learn_dictionary_online(parts, 4))
    assert seen == [(1, 1), (1, 2), (1, 3)]
    with refused(ValueError, "blocks is an iterator, which ends after one epoch, but n_epochs is above 1: pass a list"):
        learn_dictionary_online(iter(parts), 4, n_epochs=2)
    with refused(ValueError, "each block has 22 bins, but 23 as in the first is needed"):
        learn_dictionary_online([V, V[1:]], 4)
    with refused(ValueError, "blocks is silent, but at least one frame with sound is needed"):
        learn_dictionary_online([0 * V], 4)
    with refused(ValueError, "forget is 1.0, but must be below 1"):
        learn_dictionary_online([V], 4, forget=1.0)


def test_known_components_stay_and_the_rest_is_learnt(rng: np.random.Generator) -> None:
    errors = []
    for _ in range(5):
        base = (rng.random((50, 4)) ** 6 + 1e-3).astype(np.float32)
        V = (base @ (rng.random((4, 400)) * (rng.random((4, 400)) < 0.5))).astype(np.float32)
        W = learn_dictionary(V, 2, sparsity=0.001, max_iter=300, known=7 * base[:, :2])
        assert W.shape == (50, 4)
        np.testing.assert_allclose(W[:, :2], base[:, :2] / np.linalg.norm(base[:, :2], axis=0), rtol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(W, axis=0), 1, atol=1e-5)
        errors.append(np.linalg.norm(V - W @ activations(V, W, n_iter=300)) / np.linalg.norm(V))
    assert np.median(errors) < 0.05, errors


def test_known_components_do_not_adapt_to_the_data(rng: np.random.Generator) -> None:
    errors = []
    for _ in range(5):
        base = (rng.random((50, 4)) ** 6 + 1e-3).astype(np.float32)
        V = (base[:, 2:] @ rng.random((2, 300))).astype(np.float32)  # without the known ones
        W = learn_dictionary(V, 2, sparsity=0.001, max_iter=300, known=base[:, :2])[:, 2:]
        errors.append(np.linalg.norm(V - W @ activations(V, W, n_iter=500)) / np.linalg.norm(V))
    assert np.median(errors) < 0.03, errors


@pytest.mark.parametrize("beta", [2.0, 1.0])
@pytest.mark.parametrize("exponent", [30, -13, -30])
def test_the_scale_of_the_data_changes_nothing_but_scale(beta: float, exponent: int, rng: np.random.Generator) -> None:
    V, W = problem(rng, F=30, K=3, T=80)
    V /= V.max()
    scale = np.float32(2.0**exponent)
    penalties = 0.05, 0.05 * float(scale) ** (beta - 1)
    if abs(exponent) == 30:  # beyond the levels at which activations are computed as they are
        H = [activations(v, W, beta, 30, sparsity=s) for v, s in zip((V, scale * V), penalties, strict=True)]
        np.testing.assert_allclose(H[1], scale * H[0], rtol=1e-4, atol=1e-6 * scale)
    learnt = [learn_dictionary(v, 3, beta, s, max_iter=30) for v, s in zip((V, scale * V), penalties, strict=True)]
    np.testing.assert_allclose(learnt[1], learnt[0], atol=1e-4)


@pytest.mark.parametrize("solver", ["mu", "hals", "newton"])
@pytest.mark.parametrize("scale", [2.0**-80, 2.0**-20, 2.0**20, 2.0**80])
@pytest.mark.parametrize("beta", [2.0, 1.0])
def test_the_scale_of_the_dictionary_changes_nothing_but_scale(
    beta: float, scale: float, solver: str, rng: np.random.Generator
) -> None:
    if solver == "hals" and beta != 2:
        pytest.skip("hals minimises the Euclidean loss only")
    V, W = problem(rng, F=30, K=3, T=80)
    W /= W.max()
    start = rng.random((3, V.shape[1]), np.float32)
    H = activations(V, W, beta, 30, start, 0.05, solver)
    got = activations(V, np.float32(scale) * W, beta, 30, start / np.float32(scale), 0.05 * scale, solver)
    np.testing.assert_allclose(got * np.float32(scale), H, rtol=1e-4, atol=1e-6)
    known = np.stack((W[:, 0], np.float32(scale) * W[:, 1]), 1)
    learnt = learn_dictionary(V, 1, max_iter=3, known=known)
    np.testing.assert_allclose(learnt[:, :2], W[:, :2] / np.linalg.norm(W[:, :2], axis=0), rtol=1e-5)


def test_activations_that_leave_float32_are_refused(rng: np.random.Generator) -> None:
    V, W = problem(rng)
    V, W = V / V.max(), W / W.max()
    with refused(ValueError, "V and W hold up to 1e+30 and 1e-20, but H must be float32"):
        activations(np.float32(1e30) * V, np.float32(1e-20) * W)
    H0 = np.full((W.shape[1], V.shape[1]), 1e38)
    with refused(ValueError, "H0 holds 1e+38, but at most 1e+15 is possible with this V and W"):
        activations(V, W, H0=H0)


def test_learning_stops_once_settled(rng: np.random.Generator) -> None:
    V, _ = problem(rng, F=30, K=3, T=100)
    objectives: list[float] = []
    learn_dictionary(V, 3, max_iter=2000, tol=1e-5, callback=lambda i, n, d: objectives.append(d))
    assert 1500 <= len(objectives) < 2000
    assert objectives[-1] < objectives[0]


def test_more_sparsity_gives_fewer_active_entries(rng: np.random.Generator) -> None:
    V, _ = problem(rng, F=60, K=6, T=300)
    used = []
    for sparsity in (0.0, 2.0):
        W = learn_dictionary(V, 8, sparsity=sparsity, max_iter=80)
        H = activations(V, W, n_iter=200, sparsity=sparsity)
        used.append((1e-3 * H.max() < H).mean())
    assert used[1] < used[0]


def test_components_go_to_rare_sounds_rather_than_to_copies(rng: np.random.Generator) -> None:
    # Two kinds of frame are common and four rare: the first components are all drawn from the common ones.
    kind = np.r_[rng.integers(2, size=960), np.repeat([2, 3, 4, 5], 10)]

    def missed(V: np.ndarray, max_cosine: float) -> float:
        """Relative error on the rare frames."""
        W = learn_dictionary(V, 6, sparsity=0.01, max_iter=100, max_cosine=max_cosine)
        rare = V[:, 960:]
        return float(np.linalg.norm(rare - W @ activations(rare, W, n_iter=300)) / np.linalg.norm(rare))

    errors = []
    for _ in range(15):
        base = rng.random((40, 6)) ** 6
        V = (base[:, kind] * (0.5 + rng.random(1000)) + 1e-3 * rng.random((40, 1000))).astype(np.float32)
        errors.append((missed(V, 0.95), missed(V, 1.0)))
    replaced, left_alone = np.mean(errors, axis=0)
    assert replaced < 0.6 * left_alone


def test_same_seed_same_dictionary(rng: np.random.Generator) -> None:
    V, _ = problem(rng)
    a, b, c = (learn_dictionary(V, 4, max_iter=20, random_state=s) for s in (3, 3, 4))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


@given(scale=st.floats(1e-20, 1e20), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_no_nan_on_zeros_tiny_and_huge_values(scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    V, W = problem(rng)
    V = (V * np.float32(scale)).astype(np.float32)
    V[:, ::5] = 0
    V[2] = 0
    for beta in (2.0, 1.0):
        assert np.isfinite(activations(V, W, beta, 20)).all()
    assert np.isfinite(learn_dictionary(V, 3, sparsity=0.0, max_iter=12)).all()


@given(
    exponents=st.tuples(st.floats(-30, 30), st.floats(-30, 30)),
    beta=st.sampled_from(BETAS),
    sparsity=st.sampled_from([0.0, 0.01, 0.8, 100.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_columns_have_unit_norm_at_any_level(
    exponents: tuple[float, float], beta: float, sparsity: float, seed: int
) -> None:
    V, _ = problem(np.random.default_rng(seed))
    first, second = (V * np.float32(10.0**e) for e in exponents)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of too much sparsity
        whole = learn_dictionary(first, 3, beta, sparsity, max_iter=30)
        parts = learn_dictionary_online([first, second, first], 3, beta, sparsity)
    for W in (whole, parts):
        assert (W >= 0).all()
        np.testing.assert_allclose(np.linalg.norm(W, axis=0), 1, atol=1e-5)


def test_too_much_sparsity_is_told(rng: np.random.Generator) -> None:
    V, _ = problem(rng)
    quiet = 0.7 / np.linalg.norm(V, axis=0).max() * V
    told = "^sparsity is 0.8, but must be smaller to learn from these spectrograms: all activations vanish$"
    for learn in (
        lambda: learn_dictionary(quiet, 4),
        lambda: learn_dictionary_online([quiet, quiet], 4, n_updates=200),
    ):
        with pytest.warns(RuntimeWarning, match=told) as caught:
            W = learn()
        assert caught[0].filename == __file__
        np.testing.assert_allclose(np.linalg.norm(W, axis=0), 1, atol=1e-5)
    learn_dictionary(quiet, 4, sparsity=0.01)  # says nothing


def test_blocks_count_by_their_level(rng: np.random.Generator) -> None:
    first, second = problem(rng, T=200)[0], problem(rng, T=200)[0]
    settings = {"sparsity": 0.0, "max_cosine": 1.0}
    alone = learn_dictionary_online([first], 4, **settings)
    for level, same in ((1e-9, True), (1.0, False), (1e9, False)):
        W = learn_dictionary_online([first, np.float32(level) * second], 4, **settings)
        assert np.allclose(W, alone, atol=1e-5) == same


@pytest.mark.parametrize("level", [1e-2, 1e-5, 1e-30])
def test_a_quiet_first_block_does_not_keep_later_ones_from_being_learnt(level: float, rng: np.random.Generator) -> None:
    ratios = []
    for _ in range(21):  # not convex: a run often ends elsewhere, the median does not
        V, _ = problem(rng, F=60, K=6, T=400)
        blocks = np.array_split(V, 4, axis=1)
        with_quiet = learn_dictionary_online([np.float32(level) * blocks[0], *blocks], 6, sparsity=0.1)
        without = learn_dictionary_online(blocks, 6, sparsity=0.1)
        np.testing.assert_allclose(np.linalg.norm(with_quiet, axis=0), 1, atol=1e-5)
        ratios.append(fit(V, with_quiet, 2.0, 0.1) / fit(V, without, 2.0, 0.1))
    assert np.median(ratios) < 1.2, ratios


def test_kind_in_kind_out_and_silence_left_out(rng: np.random.Generator) -> None:
    V, _ = problem(rng)
    silent = np.zeros((V.shape[0], 9), np.float32)
    W = learn_dictionary([V, silent, V], 3, max_iter=5)
    assert isinstance(W, np.ndarray)
    assert np.array_equal(W, learn_dictionary(np.hstack([V, V]), 3, max_iter=5))
    tensor = learn_dictionary(torch.from_numpy(V), 3, max_iter=5)
    assert isinstance(tensor, torch.Tensor)
    assert isinstance(activations(torch.from_numpy(V), tensor), torch.Tensor)


def test_denormal_mode_is_restored(rng: np.random.Generator) -> None:
    V, _ = problem(rng)
    tiny = torch.tensor([1e-40])
    learn_dictionary(V, 2, max_iter=2)
    assert float(tiny * 1.0) > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda V: learn_dictionary(-V), "V holds -..., but must be finite and non-negative"),
        (lambda V: learn_dictionary(V * np.nan), "V holds NaN or infinity, but must be finite and non-negative"),
        (lambda V: learn_dictionary(0 * V), "V is silent, but at least one frame with sound is needed"),
        (lambda V: learn_dictionary([]), "clips_or_V is an empty sequence, but at least one spectrogram is needed"),
        (lambda V: learn_dictionary([V, V[1:]]), "the spectrograms have 22 and 23 bins, but must agree in F"),
        (lambda V: learn_dictionary(V, 0), "n_components is 0, but must be at least 1"),
        (
            lambda V: learn_dictionary(V, known=V[1:]),
            "known has shape (...), but (F, K0) with F=23 as in the spectrograms is needed",
        ),
        (
            lambda V: learn_dictionary(V, known=0 * V),
            "known holds a component that is zero everywhere, but each needs a positive entry",
        ),
        (lambda V: learn_dictionary(V, sparsity=-1), "sparsity is -1, but must be at least 0"),
        (
            lambda V: learn_dictionary(V, beta_loss="cosine"),
            "beta_loss is 'cosine', but must be a number or one of frobenius, itakura-saito, kullback-leibler",
        ),
        (lambda V: activations(V, V[1:]), "V has shape (23, 37), but (..., F, T) with F=22 as in W is needed"),
        (lambda V: activations(V, V, n_iter=-1), "n_iter is -1, but must be at least 0"),
        (lambda V: activations(V, V, solver="simplex"), "solver is 'simplex', but must be one of mu, hals, newton"),
        (lambda V: activations(V, V[:, :2], H0=np.ones((3, 3))), "H0 has shape (3, 3), but (2, 37) is needed"),
    ],
)
def test_bad_input_is_refused(call: object, message: str, rng: np.random.Generator) -> None:
    V, _ = problem(rng)
    with refused(ValueError, message):
        call(V)  # type: ignore[operator]


@pytest.mark.parametrize("solver", ["mu", "newton"])
@pytest.mark.parametrize("beta_loss", ["frobenius", "kullback-leibler"])
def test_activations_of_clips_of_several_lengths(rng, solver, beta_loss):
    V, W = (rng.random((2, 2, 33, 20)) + 0.01).astype(np.float32), rng.random((33, 5)).astype(np.float32)
    lengths = np.array([[3, 20], [0, 11]])
    frames = np.arange(20) < lengths[..., None]
    V[~np.broadcast_to(frames[:, :, None], V.shape)] = np.nan
    H0 = rng.random((2, 2, 5, 20)).astype(np.float32)
    H = l2i.activations(V, W, beta_loss, 4, H0, solver=solver, lengths=lengths)
    assert H.shape == (2, 2, 5, 20)
    assert not H[~np.broadcast_to(frames[:, :, None], H.shape)].any()
    if solver == "mu":  # Newton steps depend a little on the other frames
        for i in np.ndindex(2, 2):
            n = lengths[i]
            alone = l2i.activations(V[i][:, :n], W, beta_loss, 4, H0[i][:, :n])
            np.testing.assert_allclose(H[i][:, :n], alone, rtol=1e-5)


@pytest.mark.parametrize(
    ("lengths", "error", "words"),
    [
        ([4], ValueError, "lengths has shape (1,), but (2,) as V's clips is needed"),
        ([4, 21], ValueError, "lengths holds 4 to 21, but must lie between 0 and T=20"),
        ([4, -1], ValueError, "lengths holds -1 to 4, but must lie between 0 and T=20"),
        ([4.0, 3.0], TypeError, "lengths has dtype float64, but integers are needed"),
    ],
)
def test_wrong_lengths_are_refused(lengths, error, words):
    with refused(error, words):
        l2i.activations(np.ones((2, 33, 20)), np.ones((33, 3)), lengths=lengths)


@pytest.mark.parametrize("beta", [2 + 1e-7, 1.999999999, 1.00000001])
def test_a_beta_is_that_of_the_kernels(beta: float, rng: np.random.Generator) -> None:
    V = rng.random((20, 30), np.float32)
    expected = l2i.learn_dictionary(V, 3, float(np.float32(beta)), max_iter=5)
    np.testing.assert_array_equal(l2i.learn_dictionary(V, 3, beta, max_iter=5), expected)


def test_a_buffer_is_a_matrix_and_no_sequence(rng: np.random.Generator) -> None:
    V = rng.random((20, 30), np.float32)
    np.testing.assert_array_equal(
        l2i.learn_dictionary(memoryview(V), 3, max_iter=5), l2i.learn_dictionary(V, 3, max_iter=5)
    )


@pytest.mark.parametrize(("level", "beta"), [(1e-35, 10.0), (3e37, -8.0)])
def test_activations_of_steep_losses_at_extreme_levels(level: float, beta: float, rng: np.random.Generator) -> None:
    V, W = rng.random((20, 30)) + 0.1, rng.random((20, 3)).astype(np.float32) + 0.1
    H = l2i.activations((V * level).astype(np.float32), W, beta_loss=beta)
    assert np.isfinite(H).all()
