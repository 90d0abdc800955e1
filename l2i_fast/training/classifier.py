"""Train the classifier from scratch on magnitudes, with augmentation of the sound rather than of the features."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from l2i_fast.model.front_end import LogMel
from l2i_fast.networks.classifier import Classifier
from l2i_fast.progress import Report
from l2i_fast.training.config import ClassifierConfig, TrainingConfig
from l2i_fast.training.corruption import add_noise, magnitudes, roll_each
from l2i_fast.training.features import Features
from l2i_fast.training.loop import Stateful, run_epochs


def warp_each(mel: Tensor, amount: float) -> Tensor:
    """Stretch every clip of `mel` (B, T, n_mels) in time and in pitch by random factors of up to exp(+-amount).

    A shortened clip is repeated; bands above the highest of a lowered clip are silent.
    """
    n_frames, n_mels = mel.shape[1:]
    warped = torch.zeros_like(mel)
    for clip, out in zip(mel, warped, strict=True):
        factors = torch.exp(amount * (2 * torch.rand(2, dtype=torch.float32) - 1))
        size = (max(1, round(n_frames * float(factors[0]))), max(1, round(n_mels * float(factors[1]))))
        x = F.interpolate(clip[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
        x = x.repeat(-(-n_frames // size[0]), 1)
        out[:, : size[1]] = x[:n_frames, :n_mels]
    return warped


def augment(
    mel: Tensor, labels: Tensor, multilabel: bool, front_end: LogMel, fill: Tensor, c: ClassifierConfig
) -> tuple[Tensor, Tensor]:
    """Return augmented features (B, 1, T, n_mels) and labels (B, C) of mel magnitudes (B, T, n_mels).

    `fill` (n_mels,) stands in masked bands and frames.
    """
    n, n_frames, n_mels = mel.shape
    if c.warping:
        mel = warp_each(mel, c.warping)
    mel = roll_each(mel)
    if c.mixing:
        mixing = torch.tensor(c.mixing, dtype=torch.float32)
        share = torch.distributions.Beta(mixing, mixing).sample((n,))
        share = torch.maximum(share, 1 - share)
        other = torch.randperm(n)
        mel = share[:, None, None] * mel + (1 - share[:, None, None]) * mel[other]
        mixed = share[:, None] * labels + (1 - share[:, None]) * labels[other]
        labels = torch.maximum(labels, labels[other]) if multilabel else mixed
    x = front_end.of_mel(mel).unsqueeze(1)
    curve = torch.randn(n, 1, 5, dtype=torch.float32) * c.equaliser_db
    gain = -c.gain_db * torch.rand(n, 1, 1, dtype=torch.float32)
    curve = F.interpolate(curve, n_mels, mode="linear", align_corners=True) + gain
    x = (x + curve[:, :, None]).clamp(min=front_end.silence)
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
    """Return the cross-entropy with smoothed labels (B, C), or the weighted binary cross-entropy (several labels)."""
    if multilabel:
        return F.binary_cross_entropy_with_logits(logits, labels, pos_weight=positive_weight)
    labels = (1 - smoothing) * labels + smoothing / labels.shape[1]
    return -(labels * logits.log_softmax(1)).sum(1).mean()


def train_classifier(
    features: Features, config: TrainingConfig, checkpoint: Path, fingerprint: str, report: Report
) -> Classifier:
    """Train on all clips of `features`; resume from `checkpoint` if it exists."""
    c = config.classifier
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.classifier_seed)
        net = Classifier(features.labels.shape[1], config.analysis.n_mels, c.embedding, c.width, c.dropout)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    front_end = LogMel(config.analysis)
    # Mixing is linear, so mel magnitudes suffice: a quarter of the data.
    mel = torch.cat([front_end.mel(features.magnitude(batch)) for batch in torch.arange(len(features)).split(64)])
    net.mean, net.std = band_statistics(mel, front_end)
    optimizer = torch.optim.AdamW(net.parameters(), lr=c.learning_rate, weight_decay=c.weight_decay)
    averaged = AveragedModel(net, avg_fn=moving_average(c.averaging), use_buffers=True)
    positives = features.labels.mean(0).clamp(min=1 / len(features))
    positive_weight = ((1 - positives) / positives).clamp(1, 10) if features.multilabel else None
    n_batches = math.ceil(len(features) / c.batch_size)

    def epoch(i: int) -> str:
        net.train()
        total = 0.0
        for b, batch in enumerate(torch.randperm(len(features)).split(c.batch_size)):
            if len(batch) == 1 and n_batches > 1:
                continue  # batch normalisation needs two clips
            for group in optimizer.param_groups:
                group["lr"] = c.learning_rate * one_cycle((i + b / n_batches) / c.epochs, c.warmup)
            heard = mel[batch]
            if c.noise:
                noisy = add_noise(features.sound(batch), c.noise, c.snr_db)
                heard = front_end.mel(magnitudes(noisy, config.analysis))
            x, labels = augment(heard, features.labels[batch], features.multilabel, front_end, net.mean, c)
            with torch.autocast("cpu", torch.bfloat16, enabled=c.precision == "bfloat16"):
                logits = net(x.to(memory_format=torch.channels_last))
            loss = classification_loss(logits.float(), labels, features.multilabel, c.label_smoothing, positive_weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            averaged.update_parameters(net)
            total += float(loss.detach()) * len(batch)
        return f"loss {total / len(features):.3f}"

    states: dict[str, Stateful] = {"net": net, "averaged": averaged, "optimizer": optimizer}
    run_epochs("classifier", c.epochs, epoch, states, checkpoint, fingerprint, config.classifier_seed, report)
    net.load_state_dict(averaged.module.state_dict())
    with torch.no_grad():
        net.out.weight.div_(c.temperature)
        net.out.bias.div_(c.temperature)
    net.eval()
    return net


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Return an exponential average of weights that forgets faster at the start, so that few steps count, too."""

    def update(average: Tensor, current: Tensor, n: Tensor | int) -> Tensor:
        d = min(decay, (1 + int(n)) / (10 + int(n)))
        return average * d + current * (1 - d)

    return update


def one_cycle(progress: float, warmup: float) -> float:
    """Return the factor on the learning rate: it rises linearly to 1 over `warmup`, then falls as a half cosine."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def band_statistics(mel: Tensor, front_end: LogMel) -> tuple[Tensor, Tensor]:
    """Return the mean of every band in dB, and one standard deviation for all bands, over clips (B, T, n_mels)."""
    n_mels = mel.shape[2]
    total, squares = torch.zeros(n_mels, dtype=torch.float64), torch.zeros(n_mels, dtype=torch.float64)
    for clip in mel:
        x = front_end.of_mel(clip[None])[0].double()
        total += x.sum(0)
        squares += (x * x).sum(0)
    count = mel.shape[0] * mel.shape[1]
    mean = total / count
    std = (squares / count - mean**2).mean().clamp(min=1e-6).sqrt()
    return mean.float(), std.float().expand(n_mels).clone()
