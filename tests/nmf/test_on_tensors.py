"""NMF, dictionary learning and activations on tensors, through each backend, against NumPy's answers."""

from __future__ import annotations

import numpy as np
import pytest

import l2i_fast as l2i

from ..helpers import refused, relative, require

LOSSES = ["frobenius", "kullback-leibler", "itakura-saito", 0.5, 1.5, 3.0]


def nmf_problem(rng, F=18, T=20, K=4):
    """V (F, T), small: the interpreter of Triton's kernels is slow. Tests of the kernels have larger ones."""
    return (rng.random((F, K)) ** 2 @ rng.random((K, T)) + 0.01).astype(np.float32)


@pytest.mark.parametrize("loss", LOSSES)
def test_activations(backend, tensor, rng, loss):
    require(backend, "nmf_update_H")
    V, W = np.stack([nmf_problem(rng), nmf_problem(rng)]), rng.random((18, 5)).astype(np.float32)
    ours = l2i.activations(tensor(V), tensor(W), loss, 5, sparsity=0.1)
    assert relative(ours, l2i.activations(V, W, loss, 5, sparsity=0.1)) < 1e-4
    H0 = rng.random((2, 5, 20)).astype(np.float32)
    ours = l2i.activations(tensor(V), tensor(W), loss, 3, tensor(H0))
    assert relative(ours, l2i.activations(V, W, loss, 3, H0)) < 1e-4


@pytest.mark.parametrize("loss", LOSSES[:3])
def test_clips_of_several_lengths(backend, tensor, rng, loss):
    require(backend, "nmf_update_H")
    V, W = np.stack([nmf_problem(rng), nmf_problem(rng), nmf_problem(rng)]), rng.random((18, 5)).astype(np.float32)
    lengths = np.array([9, 20, 0])
    for v, n in zip(V, lengths, strict=True):
        v[:, n:] = np.nan
    H = l2i.activations(tensor(V), tensor(W), loss, 4, lengths=tensor(lengths))
    for v, h, n in zip(V, H, lengths, strict=True):
        assert not h[:, n:].any()
        assert relative(h[:, :n], l2i.activations(v[:, :n], W, loss, 4)) < 1e-4


@pytest.mark.parametrize("loss", LOSSES[:3])
def test_learnt_dictionaries(backend, tensor, rng, loss):
    require(backend, "nmf_update_H", "nmf_gather", "nmf_divergence")
    clips = [nmf_problem(rng), nmf_problem(rng, T=13)]
    seen = []
    settings = {"sparsity": 0.05, "max_iter": 12, "random_state": 3, "max_cosine": 1.0}
    known = rng.random((18, 1)).astype(np.float32)
    ours = l2i.learn_dictionary(
        [tensor(v) for v in clips], 4, loss, known=tensor(known), callback=lambda *x: seen.append(x), **settings
    )
    expected = l2i.learn_dictionary(clips, 4, loss, known=known, **settings)
    assert ours.device == tensor(0).device
    assert relative(ours, expected) < 1e-3
    assert [i for i, _, _ in seen] == list(range(1, 13))
    objectives = [objective for _, _, objective in seen]
    assert objectives[-1] < objectives[0]


def test_learning_online(backend, tensor, rng):
    require(backend, "nmf_update_H", "nmf_gather")
    blocks = [nmf_problem(rng) for _ in range(3)]
    settings = {"n_updates": 3, "n_epochs": 2, "sparsity": 0.05, "max_cosine": 1.0}
    ours = l2i.learn_dictionary_online([tensor(v) for v in blocks], 4, **settings)
    assert relative(ours, l2i.learn_dictionary_online(blocks, 4, **settings)) < 1e-3


def test_useless_components_are_replaced(tensor, rng, monkeypatch):
    monkeypatch.setenv("L2I_BACKEND", "torch")
    V = nmf_problem(rng, 33, T=60)
    ours = l2i.learn_dictionary(tensor(V), 6, max_iter=20, max_cosine=0.5)
    assert relative(ours, l2i.learn_dictionary(V, 6, max_iter=20, max_cosine=0.5)) < 1e-2


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("masked", [False, True])
def test_estimator(backend, tensor, rng, loss, masked):
    require(backend, "nmf_update_H", "nmf_gather", "nmf_divergence")
    X = nmf_problem(rng)
    mask = (rng.random(X.shape) < 0.8).astype(np.float32) if masked else None
    settings = {"beta_loss": loss, "max_iter": 6, "tol": 0, "init": "random", "random_state": 1, "alpha_W": 1e-3}
    ours, theirs = l2i.NMF(4, **settings), l2i.NMF(4, **settings)
    W = ours.fit_transform(tensor(X), mask=mask)
    expected = theirs.fit_transform(X, mask=mask)
    assert W.device == tensor(0).device
    assert relative(W, expected) < 1e-3
    assert relative(ours.components_, theirs.components_) < 1e-3
    assert ours.reconstruction_err_ == pytest.approx(theirs.reconstruction_err_, rel=1e-4)
    assert relative(ours.transform(tensor(X)), theirs.transform(X)) < 1e-3
    assert relative(ours.inverse_transform(W), theirs.inverse_transform(expected)) < 1e-3


def test_unusable_tensors_are_refused(tensor, rng, monkeypatch):
    monkeypatch.setenv("L2I_BACKEND", "torch")
    V, W = tensor(nmf_problem(rng)), tensor(rng.random((18, 5)).astype(np.float32))
    with refused(ValueError, "solver is 'newton', but backends on tensors have 'mu' only: ..."):
        l2i.activations(V, W, solver="newton")
    with refused(ValueError, "solver is 'cd', but backends on tensors have 'mu' only: ..."):
        l2i.NMF(3, solver="cd").fit(V)
    with refused(ValueError, "V has shape (7, 20), but (..., F, T) with F=18 as in W is needed"):
        l2i.activations(V[:7], W)
    with refused(ValueError, "H0 has shape (18, 5), but (5, 20) is needed"):
        l2i.activations(V, W, H0=W)
    with refused(ValueError, "lengths has shape (2,), but () as V's clips is needed"):
        l2i.activations(V, W, lengths=tensor([3, 4]))
    with refused(TypeError, "lengths has dtype torch.float64, but integers are needed"):
        l2i.activations(V, W, lengths=tensor(3.0))
    with refused(ValueError, "each spectrogram holds -1, but must be finite and non-negative"):
        l2i.learn_dictionary([V - 1 - V], 3)
