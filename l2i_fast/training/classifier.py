"""Train the classifier from scratch on magnitudes, with augmentation that works on sound rather than on features."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from l2i_fast.networks.classifier import Classifier
from l2i_fast.networks.log_mel import LogMel
from l2i_fast.training.config import ClassifierConfig, TrainingConfig
from l2i_fast.training.features import Features
from l2i_fast.training.loop import Report, run_epochs


def roll_each(A: Tensor) -> Tensor:
    """Rotate every clip of `A` (B, T, F) by a random time of its own."""
    n = A.shape[1]
    return torch.stack([a.roll(int(torch.randint(n, ())), 0) for a in A])


def augment(
    A: Tensor, labels: Tensor, multilabel: bool, log_mel: LogMel, fill: Tensor, c: ClassifierConfig
) -> tuple[Tensor, Tensor]:
    """Augmented features (B, 1, T, n_mels) and soft labels (B, C) of magnitudes `A` (B, T, F); `fill` masks bands."""
    n = len(A)
    A = roll_each(A)
    if c.mixing:
        share = torch.distributions.Beta(c.mixing, c.mixing).sample((n,))
        share = torch.maximum(share, 1 - share)
        other = torch.randperm(n)
        A = share[:, None, None] * A + (1 - share[:, None, None]) * A[other]
        mixed = share[:, None] * labels + (1 - share[:, None]) * labels[other]
        labels = torch.maximum(labels, labels[other]) if multilabel else mixed
    x = log_mel(A)
    n_frames, n_mels = x.shape[2:]
    curve = F.interpolate(
        torch.randn(n, 1, 5) * c.equaliser_db, n_mels, mode="linear", align_corners=True
    ) - c.gain_db * torch.rand(n, 1, 1)
    x = (x + curve[:, :, None]).clamp(min=10 * math.log10(log_mel.amin))
    for clip in x[:, 0]:
        for _ in range(c.masks):
            width = int(torch.randint(min(c.mask_bands, n_mels), ()))
            start = int(torch.randint(n_mels - width, ()))
            clip[:, start : start + width] = fill[start : start + width]
            width = int(torch.randint(min(c.mask_frames, n_frames), ()))
            start = int(torch.randint(n_frames - width, ()))
            clip[start : start + width] = fill
    return x, labels


def classification_loss(
    logits: Tensor, labels: Tensor, multilabel: bool, smoothing: float, positive_weight: Tensor | None
) -> Tensor:
    """Cross-entropy with smoothed labels (B, C), or binary cross-entropy with weights of the positives (several labels)."""
    if multilabel:
        return F.binary_cross_entropy_with_logits(logits, labels, pos_weight=positive_weight)
    labels = (1 - smoothing) * labels + smoothing / labels.shape[1]
    return -(labels * logits.log_softmax(1)).sum(1).mean()


def train_classifier(
    features: Features, config: TrainingConfig, checkpoint: Path, fingerprint: str, report: Report
) -> Classifier:
    """Train on all clips of `features`; resumes from `checkpoint` if it is there."""
    c = config.classifier
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        net = Classifier(features.labels.shape[1], config.analysis.n_mels, c.embedding, c.width, c.dropout)
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    log_mel = LogMel(config.analysis)
    net.mean, net.std = band_statistics(features, log_mel, c.batch_size)
    optimizer = torch.optim.AdamW(net.parameters(), lr=c.learning_rate, weight_decay=c.weight_decay)
    averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(c.averaging), use_buffers=True)
    positives = features.labels.mean(0).clamp(min=1 / len(features))
    positive_weight = ((1 - positives) / positives).clamp(1, 10) if features.multilabel else None
    n_batches = math.ceil(len(features) / c.batch_size)

    def epoch(i: int) -> str:
        net.train()
        total = 0.0
        for b, batch in enumerate(torch.randperm(len(features)).split(c.batch_size)):
            if len(batch) == 1 and n_batches > 1:
                continue  # batch normalisation learns nothing from one clip
            for group in optimizer.param_groups:
                group["lr"] = c.learning_rate * one_cycle((i + b / n_batches) / c.epochs, c.warmup)
            x, labels = augment(
                features.magnitude(batch), features.labels[batch], features.multilabel, log_mel, net.mean, c
            )
            with torch.autocast("cpu", torch.bfloat16, enabled=c.precision == "bfloat16"):
                logits = net(x.to(memory_format=torch.channels_last))
            loss = classification_loss(
                logits.float(), labels, features.multilabel, c.label_smoothing, positive_weight
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            averaged.update_parameters(net)
            total += float(loss.detach()) * len(batch)
        return f"loss {total / len(features):.3f}"

    states = {"net": net, "averaged": averaged, "optimizer": optimizer}
    run_epochs("classifier", c.epochs, epoch, states, checkpoint, fingerprint, config.seed, report)
    trained: Classifier = averaged.module
    return trained.eval()


def one_cycle(progress: float, warmup: float) -> float:
    """Factor on the learning rate: rises linearly to 1 over `warmup`, then falls as a half cosine."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def band_statistics(features: Features, log_mel: LogMel, batch_size: int) -> tuple[Tensor, Tensor]:
    """Mean of every band, and one standard deviation for all bands, over the clips of `features`."""
    total, squares, count = torch.zeros(()), torch.zeros(()), 0
    for batch in torch.arange(len(features)).split(batch_size):
        x = log_mel(features.magnitude(batch)).double().flatten(0, 2)
        total, squares, count = total + x.sum(0), squares + (x * x).sum(0), count + len(x)
    mean = total / count
    std = (squares / count - mean**2).mean().clamp(min=1e-6).sqrt()
    return mean.float(), std.expand_as(mean).float().clone()
