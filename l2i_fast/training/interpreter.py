"""Train Psi and Theta on a frozen classifier and a frozen dictionary (Parekh et al., 2022, section 3.2)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from l2i_fast.model.audited import AuditedNetwork
from l2i_fast.model.front_end import LogMel
from l2i_fast.networks.interpreter import Interpreter
from l2i_fast.progress import Report
from l2i_fast.training.classifier import one_cycle
from l2i_fast.training.config import TrainingConfig
from l2i_fast.training.corruption import add_clips, add_noise, magnitudes, roll_each
from l2i_fast.training.features import Features
from l2i_fast.training.loop import Stateful, run_epochs


def fidelity_loss(logits: Tensor, target_logits: Tensor, multilabel: bool) -> Tensor:
    """Return the cross-entropy between softmax outputs, or the binary one between sigmoid outputs, of logits (B, C)."""
    if multilabel:
        return F.binary_cross_entropy_with_logits(logits, target_logits.sigmoid())
    return -(target_logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()


def soft_masks(interpreter: Interpreter, H: Tensor, z: Tensor, target: Tensor, tau: float, softness: float) -> Tensor:
    """Return masks m (B, T, F) of the classes `target`, with components weighted smoothly by their relevance."""
    weights = ((interpreter.relevance(z, target) - tau) / softness).sigmoid()
    h, W = H.transpose(1, 2), interpreter.dictionary.T
    mask: Tensor = ((h * weights[:, None]) @ W) / (1e-6 + h @ W)
    return mask


def train_interpreter(
    features: Features,
    network: AuditedNetwork,
    dictionary: Tensor,
    config: TrainingConfig,
    checkpoint: Path,
    fingerprint: str,
    report: Report,
) -> Interpreter:
    """Train on all clips of `features`; resume from `checkpoint` if it exists.

    The weights of `network` are frozen, and its gradients reach its input: it is not folded.
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
        )
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=c.learning_rate)
    W = net.dictionary.T
    n_batches = math.ceil(len(features) / c.batch_size)

    def epoch(i: int) -> str:
        net.train()
        beta = [weight for start, weight in c.beta if i >= start][-1]
        sums = dict.fromkeys(("error", "fidelity", "agree", "clips"), 0.0)
        for b, batch in enumerate(torch.randperm(len(features)).split(c.batch_size)):
            if c.anneal:
                for group in optimizer.param_groups:
                    group["lr"] = c.learning_rate * one_cycle((i + b / n_batches) / c.epochs, 0.0)
            A = perturbed(features, batch, config)
            V = A.log1p()
            with torch.no_grad():
                target_logits, maps = network.run(front_end.of_magnitude(A))
            H, z, logits = net(list(maps.values()), A.shape[1])
            error = F.mse_loss(H.transpose(1, 2) @ W, V)
            fidelity = fidelity_loss(logits, target_logits, features.multilabel)
            loss = c.alpha * error + beta * fidelity + c.delta * H.mean()
            if i >= c.mask_start and (c.masked_in or c.masked_out or c.mask_mean):
                loss = loss + mask_loss(net, network, front_end, V, H, z, target_logits, config)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            sums["error"] += float(error.detach()) * len(batch)
            sums["fidelity"] += float(fidelity.detach()) * len(batch)
            sums["agree"] += float((logits.argmax(1) == target_logits.argmax(1)).sum())
            sums["clips"] += len(batch)
        n = sums["clips"]
        return f"MSE {sums['error'] / n:.4f}, fidelity {sums['fidelity'] / n:.3f}, top-1 {sums['agree'] / n:.3f}"

    states: dict[str, Stateful] = {"net": net, "optimizer": optimizer}
    run_epochs("interpreter", c.epochs, epoch, states, checkpoint, fingerprint, config.seed, report)
    return net.eval()


def perturbed(features: Features, batch: Tensor, config: TrainingConfig) -> Tensor:
    """Return magnitudes |X| (B, T, F) of some clips: mixed, noisy, rotated and cropped, as configured."""
    c = config.interpreter
    if c.mixing or c.noise:
        y = add_clips(features.sound(batch), c.mixing, c.mixing_db)
        A = magnitudes(add_noise(y, c.noise, c.snr_db), config.analysis)
    else:
        A = features.magnitude(batch)
    if c.shift:
        A = roll_each(A)  # not the sound, which would click where its end meets its start
    return A[:, : c.crop] if c.crop else A


def mask_loss(
    net: Interpreter,
    network: AuditedNetwork,
    front_end: LogMel,
    V: Tensor,
    H: Tensor,
    z: Tensor,
    target_logits: Tensor,
    config: TrainingConfig,
) -> Tensor:
    """Return the loss of the classifier's logits for the kept and for the removed part, and of the mask's size."""
    c = config.interpreter
    target = target_logits.argmax(1)

    def doubt(logits: Tensor) -> Tensor:
        """Return minus the logarithm of the class's probability, for each clip."""
        if network.multilabel:
            return F.softplus(-logits.gather(1, target[:, None])[:, 0])
        return F.cross_entropy(logits, target, reduction="none")

    def answer(V: Tensor) -> Tensor:
        return network.run(front_end.of_magnitude(V.expm1())).logits

    m = soft_masks(net, H, z, target, config.selection.threshold, c.softness)
    loss = c.mask_mean * m.mean()
    if c.masked_in:
        loss = loss + c.masked_in * doubt(answer(m * V)).mean()
    if c.masked_out:
        removed = doubt(answer((1 - m) * V))
        loss = loss - c.masked_out * removed.clamp(max=c.masked_out_limit).mean()
    return loss
