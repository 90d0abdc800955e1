"""L-MAC: a decoder that reads the network's hidden maps and returns a mask, trained by what the network hears in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from l2i_fast.arrays import host
from l2i_fast.defaults import default_settings
from l2i_fast.explainers.explainer import Evidence, FittedExplainer, Heard
from l2i_fast.explainers.learning import Sounds, crops, key_of
from l2i_fast.explainers.mel import shares_of_bands
from l2i_fast.model import AuditedNetwork, Differentiable
from l2i_fast.networks.evaluating import evaluating
from l2i_fast.progress import Report
from l2i_fast.settings import PositiveInt, Section
from l2i_fast.training.finished import finished
from l2i_fast.training.loop import Stateful, run_epochs

NonNegative = Annotated[float, Ge(0)]


@dataclass(frozen=True)
class LMACConfig(Section):
    """The decoder and its training; the weights of the loss are the paper's.

    Attributes
    ----------
    masked_in : float
        Weight of the cross-entropy of the part that is kept.
    masked_out : float
        Weight of minus the cross-entropy of the part that is removed.
    masked_out_limit : float
        Largest cross-entropy of that part that still counts: without a limit the loss has no minimum.
    mask_mean : float
        Weight of the mean of the mask.
    epochs, batch_size : int
    learning_rate : float
        Of Adam; it falls as a half cosine.
    crop : int
        Frames of a random part of each recording; at least 128.
    channels : int
        Channels of the decoder at the resolution of the deepest map; a half with each map above.
    """

    masked_in: NonNegative = 4.0
    masked_out: NonNegative = 0.2
    masked_out_limit: NonNegative = 5.0
    mask_mean: NonNegative = 0.4
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 16
    learning_rate: NonNegative = 1e-3
    crop: Annotated[int, Ge(128)] = 216
    channels: Annotated[int, Ge(8)] = 64


class Decoder(nn.Module):
    """From hidden maps to a mask over the network's bands, as the decoding half of a U-Net.

    Parameters
    ----------
    map_channels : sequence of int
        Channels of the maps, from the finest to the coarsest.
    channels : int
        See `LMACConfig`.
    """

    def __init__(self, map_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        widths = [max(8, channels >> i) for i in range(len(map_channels) + 2)]
        self.first = nn.Conv2d(map_channels[-1], widths[0], 3, padding=1)
        self.joins = nn.ModuleList(
            nn.Conv2d(before + skipped, after, 3, padding=1)
            for before, skipped, after in zip(widths, reversed(map_channels[:-1]), widths[1:], strict=False)
        )
        n = len(self.joins)
        self.refine = nn.Conv2d(widths[n], widths[n + 1], 3, padding=1)
        self.last = nn.Conv2d(widths[n + 1], 1, 3, padding=1)
        self.float()  # whatever the default dtype is

    def forward(self, maps: Sequence[Tensor], n_frames: int, n_mels: int) -> Tensor:
        """Return logits of the mask (B, T, n_mels) from maps (B, channels, time, frequency)."""
        x = torch.relu(self.first(maps[-1]))
        for join, skipped in zip(self.joins, reversed(maps[:-1]), strict=True):
            x = F.interpolate(x, skipped.shape[2:], mode="bilinear", align_corners=False)
            x = torch.relu(join(torch.cat((x, skipped), 1)))
        half = (-(-n_frames // 2), -(-n_mels // 2))
        x = torch.relu(self.refine(F.interpolate(x, half, mode="bilinear", align_corners=False)))
        logits: Tensor = self.last(F.interpolate(x, (n_frames, n_mels), mode="bilinear", align_corners=False))
        return logits[:, 0]


class Losses(NamedTuple):
    """The terms of the loss, each a mean over the batch.

    Attributes
    ----------
    masked_in, masked_out, mask_mean : Tensor
    """

    masked_in: Tensor
    masked_out: Tensor
    mask_mean: Tensor

    def total(self, config: LMACConfig) -> Tensor:
        """Return ``masked_in CE(kept) - masked_out min(CE(removed), limit) + mask_mean mean(m)``."""
        c = config
        return c.masked_in * self.masked_in - c.masked_out * self.masked_out + c.mask_mean * self.mask_mean


def doubt(logits: Tensor, target: Tensor, multilabel: bool) -> Tensor:
    """Return minus the logarithm of the probability of each item's class, (B,), from logits (B, C)."""
    if multilabel:
        return F.softplus(-logits.gather(1, target[:, None])[:, 0])
    return F.cross_entropy(logits, target, reduction="none")


class LMAC(FittedExplainer):
    """Listenable maps for audio classifiers, by a decoder trained on the network's own decisions c.

    With the mask m on the magnitudes A, the decoder makes

        4 CE(f(m A), c) - 0.2 min(CE(f((1 - m) A), c), 5) + 0.4 mean(m)

    small (Paissan et al.; the limit is ours). The decoder's mask has the resolution of the network's bands,
    and a bin takes the weighted mean of its bands: the network cannot tell the bins of one band apart. The paper's
    second stage, which binds the mask to the input's spectrogram for better listening, is left out.

    Parameters
    ----------
    network : AuditedNetwork
    config : LMACConfig, optional

    Raises
    ------
    ValueError
        A network without gradients.
    """

    name = "lmac"
    title = "L-MAC"
    paper = "Paissan et al.: Listenable Maps for Audio Classifiers. ICML 2024, arXiv 2403.13086"

    @torch.inference_mode(False)  # the decoder is trained later, whatever the caller's mode is now
    def __init__(self, network: AuditedNetwork, config: LMACConfig = LMACConfig()) -> None:
        super().__init__(network)
        self.config = config
        self._differentiable: Differentiable = network.differentiable()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.decoder = Decoder(self.network.map_channels(), config.channels)
        filters = self.network.front_end.filters
        self._filters = torch.from_numpy(filters.copy())
        self._shares = torch.from_numpy(shares_of_bands(filters))

    def on(self, network: AuditedNetwork) -> Self:
        """Return the method with the same decoder on another network: see `Explainer.on`."""
        twin = super().on(network)
        twin._differentiable = network.differentiable()
        return twin

    @property
    def settings(self) -> dict[str, Any]:
        """The analysis and the settings of the training."""
        return {**super().settings, **asdict(self.config)}

    @default_settings()
    @torch.inference_mode(False)
    def fit(self, recordings: Sequence[Any], folder: Path, report: Report, seed: int = 0) -> Self:
        """Train the decoder on recordings, without labels: see `FittedExplainer.fit`.

        The folder keeps it as ``lmac.safetensors``, and a checkpoint of each epoch.
        """
        sounds = Sounds(self.network, recordings)
        key = key_of(self.network, self._differentiable, sounds, self.config, seed)

        def learn() -> dict[str, Tensor]:
            self._train(sounds, Path(folder) / "lmac.checkpoint", key, report, seed)
            return self.decoder.cpu().state_dict()

        self.decoder.load_state_dict(dict(finished(Path(folder) / "lmac.safetensors", key, learn)))
        self.decoder.eval()
        self.fitted = True
        return self

    def _train(self, sounds: Sounds, checkpoint: Path, key: str, report: Report, seed: int) -> None:
        c = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.decoder = Decoder(self.network.map_channels(), c.channels).to(self.network.device)
        self._differentiable.module.to(self.network.device)
        optimizer = torch.optim.Adam(self.decoder.parameters(), lr=c.learning_rate)

        def epoch(i: int) -> str:
            for group in optimizer.param_groups:
                group["lr"] = c.learning_rate * 0.5 * (1 + math.cos(math.pi * i / c.epochs))
            total = kept = 0.0
            for batch in torch.randperm(len(sounds)).split(c.batch_size):
                A, features = crops(self.network, sounds, batch, c.crop)
                losses = self.losses(A, features)
                optimizer.zero_grad()
                losses.total(c).backward()
                torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
                optimizer.step()
                total += float(losses.total(c).detach()) * len(batch)
                kept += float(losses.mask_mean.detach()) * len(batch)
            return f"loss {total / len(sounds):.3f}, kept {kept / len(sounds):.2f}"

        states: dict[str, Stateful] = {"decoder": self.decoder, "optimizer": optimizer}
        with torch.enable_grad():
            run_epochs("lmac", c.epochs, epoch, states, checkpoint, key, seed, report)

    def losses(self, A: Tensor, features: Tensor) -> Losses:
        """Return the terms of the loss for magnitudes A (B, T, F) and features (B, 1, T, n_mels)."""
        with torch.no_grad():
            answers = self.network.run(features)
        target = answers.logits.argmax(1)
        mask = self._mask(list(answers.maps.values()), features)
        m = mask @ self._shares.T.to(mask.device)
        A = A.to(mask.device)
        kept, removed = (doubt(self._answer(part * A), target, self.network.multilabel) for part in (m, 1 - m))
        return Losses(kept.mean(), removed.clamp(max=self.config.masked_out_limit).mean(), m.mean())

    def _mask(self, maps: Sequence[Tensor], features: Tensor) -> Tensor:
        """Return the mask (B, T, n_mels) over bands; maps of short inputs are those of the padded input."""
        n_frames, n_mels = features.shape[2:]
        logits: Tensor = self.decoder(maps, max(n_frames, self.network.min_frames), n_mels)
        return logits[:, :n_frames].sigmoid()

    def _answer(self, A: Tensor) -> Tensor:
        """Return the network's logits for magnitudes, differentiable."""
        features: Tensor = self.network.front_end.of_mel(A @ self._filters.to(A.device)).unsqueeze(1)
        logits: Tensor = self._differentiable.module(self.network.padded(features))
        return logits

    def find(self, heard: Heard, targets: Sequence[int]) -> list[Evidence]:
        """Return the decoder's masks, which explain the most probable class whatever the target is."""
        self._require_fit()
        with torch.inference_mode(), evaluating(self.decoder):
            maps = [x.cpu() for x in heard.maps.values()]
            masks = host((self._mask(maps, heard.features.cpu()) @ self._shares.T).swapaxes(1, 2))
        return [Evidence(mask) for mask in masks]
