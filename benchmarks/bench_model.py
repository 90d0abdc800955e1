"""A whole interpretation of one 5 s clip, networks included, beside the same in torch and in the authors' manner."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import l2i_fast as l2i
from l2i_fast.bench import peers
from l2i_fast.bench.case import Case
from l2i_fast.bench.problem import Problem
from l2i_fast.model import L2I, LogMel
from l2i_fast.networks.classifier import Classifier
from l2i_fast.networks.hidden import HiddenMaps

Samples = NDArray[Any]


def weights_for(model: L2I, logits: Tensor, z: Tensor) -> Tensor:
    """1 for the components selected for the predicted class."""
    relevance = model.interpreter.relevance(z, logits.argmax(1))[0]
    weights = torch.zeros_like(relevance)
    weights[list(model.select(relevance.numpy(), model.selection))] = 1
    return weights


def gain_of(mask: Tensor, A: Tensor, domain: str) -> Tensor:
    """The factor on magnitudes `A` that a mask, which is overwritten, stands for."""
    if domain == "wiener":
        rest = (1 - mask).square_().square_()
        mask.square_().square_()
        return mask.div_(rest.add_(mask))
    return mask if domain == "magnitude" else torch.expm1(mask.mul_(torch.log1p(A))).div_(A.clamp(min=1e-30))


def torch_interpretation(model: L2I, problem: Problem, tuned: bool) -> Callable[[], Samples]:
    """Plain torch, or tuned: batch normalisation folded, channels last, only the selected
    columns in the numerator, inverse FFT and overlap-add by slices."""
    log_mel, window = LogMel(model.analysis), torch.hann_window(problem.n_fft)
    classifier = (model.network.module.fused() if tuned else copy.deepcopy(model.network.module)).to(
        memory_format=torch.channels_last if tuned else torch.contiguous_format
    )
    hidden = HiddenMaps(classifier, Classifier.layers)
    interpreter = model.interpreter
    W = interpreter.dictionary.detach().T.contiguous()
    synthesis = peers.TunedIstft(problem)

    @torch.inference_mode()
    def run() -> Samples:
        samples = torch.from_numpy(problem.y)
        peak = samples.abs().amax()
        X = torch.stft(
            samples / peak, problem.n_fft, problem.hop, window=window, pad_mode="constant", return_complex=True
        )
        parts = torch.view_as_real(X.T)
        A = (parts * parts).sum(-1).sqrt_()
        logits, maps = hidden(log_mel.of_magnitude(A[None]))
        H, z, _ = interpreter(maps, len(A))
        weights = weights_for(model, logits, z)
        h = interpreter.fit(H, torch.log1p(A).T[None])[0].T
        if tuned:
            chosen = weights.nonzero()[:, 0]
            mask = (h[:, chosen] @ W[chosen]).div_((h @ W).add_(1e-6))
            Y = torch.view_as_complex(parts * gain_of(mask, A, model.selection.domain)[..., None])
            synthesis.sums.zero_()
            for t in range(0, len(Y), peers.SLICE):
                synthesis(t, Y[t : t + peers.SLICE])
            return synthesis.finish() * float(peak)
        else:
            mask = ((h * weights) @ W) / (h @ W + 1e-6)
            Y = torch.polar(gain_of(mask, A, model.selection.domain) * A, torch.angle(X.T)).T
        out = torch.istft(Y, problem.n_fft, problem.hop, window=window, length=len(samples))
        return (out * peak).numpy()

    return run


def authors_interpretation(model: L2I, problem: Problem) -> Callable[[], Samples]:
    """librosa for the transforms, one spectrogram for each selected component, as in the authors' published code."""
    log_mel = LogMel(model.analysis)
    classifier = copy.deepcopy(model.network.module).to(memory_format=torch.contiguous_format)
    interpreter = copy.deepcopy(model.interpreter).to(memory_format=torch.contiguous_format)
    hidden = HiddenMaps(classifier, Classifier.layers)
    W = interpreter.dictionary.detach().numpy()

    @torch.inference_mode()
    def run() -> Samples:
        y = problem.y
        peak = np.abs(y).max()
        X = librosa.stft(y / peak, n_fft=problem.n_fft, hop_length=problem.hop)
        A, phase = np.abs(X), np.angle(X)
        logits, maps = hidden(log_mel.of_magnitude(torch.from_numpy(A.T.copy())[None]))
        H, z, _ = interpreter(maps, A.shape[1])
        h = interpreter.fit(H, torch.from_numpy(np.log1p(A))[None])[0].numpy()
        total, mask = W @ h + 1e-6, np.zeros_like(A)
        for k in weights_for(model, logits, z).nonzero()[:, 0].tolist():
            mask += np.outer(W[:, k], h[k]) / total
        gain = gain_of(torch.from_numpy(mask), torch.from_numpy(A), model.selection.domain).numpy()
        Y = gain * A * np.exp(1j * phase)
        return librosa.istft(Y, hop_length=problem.hop, length=len(y)) * peak

    return run


def test_interpret(compare: Any) -> None:
    model, problem = l2i.load("esc10"), Problem()
    plain = torch_interpretation(model, problem, False)
    with FlopCounterMode(display=False) as counter:
        plain()
    compare(
        Case(
            "interpret",
            "clip",
            "5 s at 44.1 kHz",
            flops=counter.get_total_flops(),  # those of convolutions and products
            bytes=8 * problem.y.size,
            ours={"ours": lambda: lambda: model.interpret((problem.y, 44100)).audio},
            exact=authors_interpretation(model, problem),
            peers={
                "torch, tuned": lambda: torch_interpretation(model, problem, True),
                "torch": lambda: plain,
                "authors' manner": lambda: authors_interpretation(model, problem),
            },
        )
    )
