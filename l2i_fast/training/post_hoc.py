"""Train an interpreter for a network as it is, from unlabelled recordings: the target is the network's own decision."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from l2i_fast.model.windowed import WindowedNetwork
from l2i_fast.networks.general_psi import GeneralPsi
from l2i_fast.networks.interpreter import Interpreter
from l2i_fast.progress import Report
from l2i_fast.settings import PositiveInt, Section, Selection
from l2i_fast.training.classifier import one_cycle
from l2i_fast.training.config import Count, DictionaryConfig, Dropout, NonNegative, Seed, Share, Width
from l2i_fast.training.dictionary import learn_from
from l2i_fast.training.finished import finished
from l2i_fast.training.heard import Heard
from l2i_fast.training.interpreter import fidelity_loss, masked, soft_weights
from l2i_fast.training.loop import Stateful, run_epochs, seed_of
from l2i_fast.training.stages import Theta

#: Steps between checkpoints.
_STEPS = 50
#: Pieces by which maps are standardised.
_STANDARD = 64


@dataclass(frozen=True)
class FitConfig(Section):
    """How an interpreter for a network is learnt: see `l2i_fast.fit`.

    The loss is that of Parekh et al. (NeurIPS 2022, section 3.2), ``alpha * MSE(V, W H) + beta * fidelity + delta *
    mean(H)``, with the network's own scores as the target. If gradients pass through the network and its front end to
    the samples, three terms follow on what the mask of the class c that the network decides on keeps of the sound,
    ``masked_in * softplus(e - e(kept)) + masked_out * softplus(e(removed) - e) + kept * share``, with e the log-odds of
    c, and the share of the log magnitude.

    Attributes
    ----------
    seconds : float
        Length of the pieces that recordings are cut into.
    held_out : float
        Share of the recordings that are kept apart, by which the report tells what the interpretations are worth.
    dictionary : DictionaryConfig
        Its settings for noise and mixtures must be 0.
    theta, width, dropout, updates, centred
        See `l2i_fast.training.config.InterpreterConfig`.
    steps, batch_size, learning_rate
        Of Adam, whose rate falls as a half cosine.
    mask_pieces : int
        Pieces of a batch on which the terms on the mask are computed: for each, one window that the network hears.
    mask_start : float
        Share of the steps before the terms on the mask count.
    softness : float
        See `l2i_fast.training.config.InterpreterConfig`.
    """

    seed: Seed = 0
    seconds: NonNegative = 5.0
    held_out: Share = 0.15
    dictionary: DictionaryConfig = field(default_factory=DictionaryConfig)
    theta: Theta = "attention"
    width: Width = 1.0
    dropout: Dropout | None = None
    updates: Count = 8
    centred: bool = True
    steps: PositiveInt = 1500
    batch_size: PositiveInt = 16
    learning_rate: NonNegative = 1e-3
    alpha: NonNegative = 5.0
    beta: NonNegative = 1.0
    delta: NonNegative = 0.1
    masked_in: NonNegative = 4.0
    masked_out: NonNegative = 2.0
    kept: NonNegative = 2.0
    mask_pieces: PositiveInt = 8
    mask_start: Share = 0.1
    softness: Annotated[float, Ge(1e-6)] = 0.05
    selection: Selection = field(default_factory=lambda: Selection(0.1, None, "wiener"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seconds < 0.1:
            raise ValueError(f"seconds is {self.seconds:g}, but must be at least 0.1")
        if self.dictionary.mixing or self.dictionary.noise:
            raise ValueError(
                "dictionary has noise or mixing, but must have neither: recordings are learnt from as they are"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as JSON can write it."""
        return dataclasses.asdict(self)


def train_post_hoc(
    network: WindowedNetwork,
    heard: Heard,
    chosen: Sequence[int],
    config: FitConfig,
    folder: Path,
    key: str,
    report: Report,
) -> Interpreter:
    """Learn a dictionary and an interpreter from some of the pieces that a network has heard.

    What is finished is kept in `folder`, and an interrupted call goes on.
    """
    W = finished(folder / "dictionary.safetensors", key, lambda: {"W": _dictionary(heard, chosen, config, report)})["W"]
    first = heard.batch(chosen[:1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(config.seed, "interpreter"))
        net = Interpreter(
            W,
            len(network.classes),
            [x.shape[1] for x in first.maps],
            config.theta,
            rows=[x.shape[3] for x in first.maps],
            width=config.width,
            dropout=config.dropout,
            updates=config.updates,
        )
    assert isinstance(net.psi, GeneralPsi)
    net.psi.standardize(_standard(heard, chosen, config))
    _learn(net, network, heard, chosen, config, folder / "interpreter.checkpoint", key, report)
    return net.eval()


def _dictionary(heard: Heard, chosen: Sequence[int], config: FitConfig, report: Report) -> Tensor:
    d = config.dictionary
    n_frames = heard.batch(chosen[:1]).V.shape[2]
    rng = np.random.default_rng(seed_of(config.seed, "frames"))
    kept = np.sort(rng.permutation(len(chosen) * n_frames)[: d.max_frames])
    parts = []
    for i, V in enumerate(heard.frames(chosen)):
        begin, end = np.searchsorted(kept, [i * n_frames, (i + 1) * n_frames])
        parts.append(V.T[kept[begin:end] - i * n_frames])
    V = torch.cat(parts)
    sounding = int((V > 0).any(1).sum())
    if sounding < d.n_components:
        raise ValueError(
            f"recordings have {sounding} frames that are not silent, but {d.n_components} components need as many"
        )
    return learn_from(V, d, config.seed, report)


def _standard(heard: Heard, chosen: Sequence[int], config: FitConfig) -> list[list[Tensor]]:
    rng = np.random.default_rng(seed_of(config.seed, "standard"))
    some = rng.permutation(np.asarray(chosen))[:_STANDARD]
    return [heard.batch([int(i)]).maps for i in some]


def mask_loss(net: Interpreter, network: WindowedNetwork, y: Tensor, H: Tensor, z: Tensor, config: FitConfig) -> Tensor:
    """Return the terms on the mask: see `FitConfig`.

    Parameters
    ----------
    net : Interpreter
    network : WindowedNetwork
        Gradients pass through it.
    y : Tensor (B, N)
        Samples.
    H : Tensor (B, K, T)
        Activations that are decoded.
    z : Tensor (B, K)
        Pooled activations.
    config : FitConfig
    """
    a, domain, n = network.analysis, config.selection.domain, y.shape[1]
    length = min(network.window or n, n)
    starts = torch.randint(n - length + 1, (len(y),)).tolist()

    def heard(signals: Tensor) -> Tensor:
        windows = torch.stack([one[start : start + length] for one, start in zip(signals, starts, strict=True)])
        return network.run(windows).logits

    with torch.no_grad():
        logits = heard(y)
    target = logits.argmax(1)

    def log_odds(logits: Tensor) -> Tensor:
        own = logits.gather(1, target[:, None])[:, 0]
        if network.multilabel:
            return own
        return own - logits.scatter(1, target[:, None], -torch.inf).logsumexp(1)

    scale = y.abs().amax(1).clamp(min=1e-9)[:, None]
    window = torch.hann_window(a.n_fft, device=y.device)
    X = torch.stft(y / scale, a.n_fft, a.hop_length, window=window, pad_mode="constant", return_complex=True)
    A = (X.real.square() + X.imag.square()).sqrt()
    weights = soft_weights(net, z, target, config.selection.threshold, config.softness)
    W = net.dictionary
    m = (W @ (H * weights[..., None])) / (1e-6 + W @ H)

    def sound(of: Tensor) -> Tensor:
        part: Tensor = torch.istft(
            X * (of / A.clamp(min=1e-9)), a.n_fft, a.hop_length, window=window, length=y.shape[1]
        )
        return part * scale

    kept = masked(A, m, domain)
    before = log_odds(logits)
    loss = config.kept * (kept.log1p().sum((1, 2)) / A.log1p().sum((1, 2)).clamp(min=1e-6)).mean()
    loss = loss + config.masked_in * F.softplus(before - log_odds(heard(sound(kept)))).mean()
    removed = sound(masked(A, 1 - m, domain))
    return loss + config.masked_out * F.softplus(log_odds(heard(removed)) - before).mean()


@contextmanager
def frozen(network: WindowedNetwork) -> Iterator[None]:
    """Let the weights of a network need no gradients for a while."""
    learning = [p for module in network.modules for p in module.parameters() if p.requires_grad]
    for p in learning:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learning:
            p.requires_grad_(True)


def _learn(
    net: Interpreter,
    network: WindowedNetwork,
    heard: Heard,
    chosen: Sequence[int],
    config: FitConfig,
    checkpoint: Path,
    key: str,
    report: Report,
) -> None:
    c = config
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=c.learning_rate)
    n_epochs = math.ceil(c.steps / _STEPS)
    masking = bool(c.masked_in or c.masked_out or c.kept) and network.lets_gradients_pass()
    size = min(c.batch_size, len(chosen))

    def epoch(i: int) -> str:
        net.train()
        error = fidelity = agree = 0.0
        for step in range(_STEPS):
            for group in optimizer.param_groups:
                group["lr"] = c.learning_rate * one_cycle((i + step / _STEPS) / n_epochs, 0.0)
            batch = heard.batch([chosen[int(j)] for j in torch.randperm(len(chosen))[:size]])
            evidence, z, logits = net(batch.maps, batch.V.shape[2])
            missed = F.mse_loss(net.dictionary @ evidence, batch.V)
            distance = fidelity_loss(logits, batch.logits, network.multilabel)
            loss = c.alpha * missed + c.beta * distance + c.delta * evidence.mean()
            if masking and i + step / _STEPS >= c.mask_start * n_epochs:
                few = slice(c.mask_pieces)
                H = net.fit(evidence[few], batch.V[few])
                loss = loss + mask_loss(net, network, batch.y[few], H, z[few], c)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            if c.centred and not network.multilabel:
                with torch.no_grad():
                    net.theta.out.weight -= net.theta.out.weight.mean(0)
            error += float(missed.detach()) / _STEPS
            fidelity += float(distance.detach()) / _STEPS
            agree += float((logits.argmax(1) == batch.logits.argmax(1)).float().mean()) / _STEPS
        return f"MSE {error:.4f}, fidelity {fidelity:.4f}, top-1 {agree:.3f}"

    states: dict[str, Stateful] = {"net": net, "optimizer": optimizer}
    with frozen(network):
        run_epochs("interpreter", n_epochs, epoch, states, checkpoint, key, c.seed, report)
