"""Train Psi and Theta on a frozen classifier and a frozen dictionary (Parekh et al., 2022, section 3.2)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from l2i_fast.model.front_end import LogMel
from l2i_fast.model.spectral import SpectralNetwork
from l2i_fast.networks.evaluating import evaluating
from l2i_fast.networks.interpreter import Interpreter
from l2i_fast.progress import Report
from l2i_fast.settings import Domain
from l2i_fast.training.classifier import one_cycle
from l2i_fast.training.config import TrainingConfig
from l2i_fast.training.corruption import corrupted, roll_each
from l2i_fast.training.features import Features
from l2i_fast.training.loop import Stateful, run_epochs

#: Products of activation and weight below which nothing supports a class: gradients of their quotients overflow.
_LEAST = 1e-6


def fidelity_loss(logits: Tensor, target_logits: Tensor, multilabel: bool) -> Tensor:
    """Return the cross-entropy between softmax outputs, or the binary one between sigmoid outputs, of logits (B, C)."""
    if multilabel:
        return F.binary_cross_entropy_with_logits(logits, target_logits.sigmoid())
    return -(target_logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()


def soft_weights(interpreter: Interpreter, z: Tensor, target: Tensor, tau: float, softness: float) -> Tensor:
    """Return weights (B, K) of the components for the classes `target`: smooth steps at a relevance of `tau`."""
    return ((interpreter.relevance(z, target, _LEAST) - tau) / softness).sigmoid()


def train_interpreter(
    features: Features,
    network: SpectralNetwork,
    dictionary: Tensor,
    config: TrainingConfig,
    checkpoint: Path,
    fingerprint: str,
    report: Report,
) -> Interpreter:
    """Train on all clips of `features`; resume from `checkpoint` if it exists.

    The weights of `network` are frozen; gradients pass through it to its input.
    """
    c = config.interpreter
    front_end = LogMel(config.analysis)
    channels = network.map_channels()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        net = Interpreter(
            dictionary,
            features.labels.shape[1],
            channels,
            c.theta,
            rows=config.analysis.n_mels // 8,
            width=c.width,
            dropout=c.dropout,
            streamable=c.streamable,
            updates=c.updates,
        )
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=c.learning_rate)
    n_batches = math.ceil(len(features) / c.batch_size)

    def epoch(i: int) -> str:
        net.train()
        beta = [weight for start, weight in c.beta if i >= start][-1]
        sums = dict.fromkeys(("error", "fidelity", "agree", "clips"), 0.0)
        for b, batch in enumerate(torch.randperm(len(features)).split(c.batch_size)):
            if c.anneal:
                for group in optimizer.param_groups:
                    group["lr"] = c.learning_rate * one_cycle((i + b / n_batches) / c.epochs, 0.0)
            A, quiet = corrupted(features, batch, c, config.analysis)
            if c.shift:  # not the sound, which would click where its end meets its start
                A, quiet = roll_each(torch.cat([A, quiet], 2)).chunk(2, 2)
            if c.crop:
                A, quiet = A[:, : c.crop], quiet[:, : c.crop]
            V = A.log1p()
            with torch.no_grad():
                target_logits, maps = network.run(front_end.of_magnitude(A))
            evidence, z, logits = net(list(maps.values()), A.shape[1])
            H = net.fit(evidence, V.transpose(1, 2))
            error = F.mse_loss(H.transpose(1, 2) @ net.dictionary.T, V)
            fidelity = fidelity_loss(logits, target_logits, features.multilabel)
            loss = c.alpha * error + beta * fidelity + c.delta * evidence.mean()
            if i >= c.mask_start and (c.masked_in or c.masked_out or c.kept or c.steady):
                loss = loss + mask_loss(net, network, front_end, A, quiet, H, z, target_logits, config)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            if c.centred and not features.multilabel:
                with torch.no_grad():
                    net.theta.out.weight -= net.theta.out.weight.mean(0)
            sums["error"] += float(error.detach()) * len(batch)
            sums["fidelity"] += float(fidelity.detach()) * len(batch)
            sums["agree"] += float((logits.argmax(1) == target_logits.argmax(1)).sum())
            sums["clips"] += len(batch)
        n = sums["clips"]
        return f"MSE {sums['error'] / n:.4f}, fidelity {sums['fidelity'] / n:.3f}, top-1 {sums['agree'] / n:.3f}"

    states: dict[str, Stateful] = {"net": net, "optimizer": optimizer}
    run_epochs("interpreter", c.epochs, epoch, states, checkpoint, fingerprint, config.seed, report)
    return net.eval()


def mask_loss(
    net: Interpreter,
    network: SpectralNetwork,
    front_end: LogMel,
    A: Tensor,
    quiet: Tensor,
    H: Tensor,
    z: Tensor,
    target_logits: Tensor,
    config: TrainingConfig,
) -> Tensor:
    """Return the loss of the classifier's answers to the part that is kept and to the rest, and of what is kept.

    A and `quiet` (B, T, F) are magnitudes with and without noise, H (B, K, T) the activations of A that are decoded.
    """
    c, domain = config.interpreter, config.selection.domain
    target = target_logits.argmax(1)
    m = soft_mask(net, H, z, target, config)

    def evidence(A: Tensor) -> Tensor:
        """Return the log-odds (B,) of the class."""
        logits = network.run(front_end.of_magnitude(A)).logits
        own = logits.gather(1, target[:, None])[:, 0]
        if network.multilabel:
            return own
        others = logits.scatter(1, target[:, None], -torch.inf)
        return own - others.logsumexp(1)

    kept = masked(A, m, domain)
    loss = c.kept * (kept.log1p().sum((1, 2)) / A.log1p().sum((1, 2)).clamp(min=1e-6)).mean()
    if c.masked_in:
        loss = loss + c.masked_in * F.softplus(-evidence(kept)).mean()
    if c.masked_out:
        loss = loss + c.masked_out * F.softplus(evidence(masked(A, 1 - m, domain))).mean()
    if c.steady:
        loss = loss + c.steady * unsteadiness(net, network, front_end, A, quiet, kept, target, config)
    return loss


def unsteadiness(
    net: Interpreter,
    network: SpectralNetwork,
    front_end: LogMel,
    A: Tensor,
    quiet: Tensor,
    kept: Tensor,
    target: Tensor,
    config: TrainingConfig,
) -> Tensor:
    """Return how much noise adds to what is kept: the squared excess of log magnitudes, 0 for clips without noise.

    Only the excess: noise covers the faint parts that are kept without it, such as a click's surroundings. Noise that
    changes the network's decision `target` (B,) may change its explanation, too, and does not count.
    """
    noisy = (quiet != A).flatten(1).any(1)
    if not noisy.any():
        return A.new_zeros(())
    with torch.no_grad(), evaluating(net):
        x = quiet[noisy]
        logits, maps = network.run(front_end.of_magnitude(x))
        evidence, z, _ = net(list(maps.values()), x.shape[1])
        H = net.fit(evidence, x.log1p().transpose(1, 2))
        wanted = masked(x, soft_mask(net, H, z, logits.argmax(1), config), config.selection.domain)
    same = logits.argmax(1) == target[noisy]
    excess = (kept[noisy].log1p() - wanted.log1p()).relu().square().mean((1, 2))
    return (excess * same).sum() / len(A)


def soft_mask(net: Interpreter, H: Tensor, z: Tensor, target: Tensor, config: TrainingConfig) -> Tensor:
    """Return masks (B, T, F) of activations H (B, K, T), in which components weigh as `soft_weights` has them."""
    weights = soft_weights(net, z, target, config.selection.threshold, config.interpreter.softness)
    h, W = H.transpose(1, 2), net.dictionary.T
    return ((h * weights[:, None]) @ W) / (1e-6 + h @ W)


def masked(A: Tensor, m: Tensor, domain: Domain) -> Tensor:
    """Return what masks `m` keep of the magnitudes `A`: see `l2i_fast.soft_mask`."""
    if domain == "log":
        return (m * A.log1p()).expm1()
    if domain == "wiener":
        wanted, rest = m.square().square(), (1 - m).square().square()
        m = wanted / (wanted + rest)
    return m * A
