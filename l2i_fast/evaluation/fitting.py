"""`fit`: an interpreter for any network from unlabelled recordings, and what its interpretations are worth."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from l2i_fast.arguments import is_several, shown
from l2i_fast.audio import read_sound
from l2i_fast.defaults import default_settings
from l2i_fast.explainers import Constant, EqualEnergy, ListenToInterpret
from l2i_fast.files import as_path, write_whole
from l2i_fast.metrics.faithfulness import scores
from l2i_fast.metrics.fidelity import multilabel, rank
from l2i_fast.metrics.judging import judge
from l2i_fast.model import L2I
from l2i_fast.model.windowed import WindowedNetwork
from l2i_fast.progress import Report
from l2i_fast.results import Result
from l2i_fast.training.finished import fingerprint
from l2i_fast.training.heard import Heard, pieces_of
from l2i_fast.training.post_hoc import FitConfig, train_post_hoc

#: Fewest recordings of which some are held out.
_FEWEST = 2
#: Most recordings that are scored, and those that are interpreted together.
_SCORED, _GROUP = 200, 8


@dataclass(frozen=True)
class Trust:
    """What the interpretations of a fitted model are worth, on recordings that it was not fitted to.

    Attributes
    ----------
    recordings : int
        Number of recordings, each cut to one piece.
    figures : dict
        ``fidelity_top1``, ``fidelity_top3``: share in which the network's first class is the interpreter's first
        one, or among its first three. ``mean_precision``: with several labels, the mean average precision of the
        interpreter's scores against the network's decisions, over the classes that it decides on. ``missed``: share
        of the energy of the log spectra that W H does not explain. ``AI``, ``AD``, ``AG`` (in percent), ``FF``,
        ``Fid-In``, ``kept``: see `l2i_fast.metrics.faithfulness`.
    controls : dict
        The same scores for random components of the same energy and for a constant mask that keeps as much.
    """

    recordings: int
    figures: dict[str, float]
    controls: dict[str, dict[str, float]]

    def __str__(self) -> str:
        return "\n".join(self.sentences())

    def sentences(self) -> list[str]:
        """Say in words whether the interpretations can be trusted."""
        f, n = self.figures, self.recordings
        if not n:
            return [
                "No recordings were held out, so nothing is known of the interpretations: fit with more recordings."
            ]
        found = [
            f"Of {n} recordings kept apart, the interpreter names the network's class first in "
            f"{100 * f['fidelity_top1']:.0f} %, and among its first three in {100 * f['fidelity_top3']:.0f} %.",
            f"The kept part alone gets the network's class in {100 * f['Fid-In']:.0f} %, and raises its probability in "
            f"{f['AI']:.0f} % (random components of the same energy: {self._control('AI'):.0f} %).",
            f"Removing it costs {f['FF']:.2f} of the probability (random components: {self._control('FF'):.2f}); it is "
            f"{100 * f['kept']:.0f} % of the log magnitude.",
        ]
        faults = self.faults()
        if not faults:
            return [*found, "The interpretations can be trusted."]
        return [*found, *faults, "Trust the interpretations accordingly."]

    def faults(self) -> list[str]:
        """Say what speaks against the interpretations."""
        f, found = self.figures, []
        if f["fidelity_top1"] < 0.7:
            found.append("The interpreter often decides otherwise than the network: it may explain another class.")
        if f["FF"] <= self._control("FF") + 2 * f["FF_error"]:
            found.append("Random components cost the network as much: the chosen ones are not what it used.")
        if f["Fid-In"] < 0.7:
            found.append("The kept part alone is often something else to the network, which needs more than that.")
        if f["missed"] > 0.3:
            found.append(
                f"The components miss {100 * f['missed']:.0f} % of the energy: fit with more, or other, sounds."
            )
        if self.recordings < 20:
            found.append(f"{self.recordings} recordings are few: the figures may be off by a tenth or more.")
        return found

    def _control(self, name: str) -> float:
        return self.controls["equal-energy"][name]


@default_settings()
@torch.inference_mode(False)
def fit(
    network: WindowedNetwork,
    recordings: Iterable[Any],
    folder: str | os.PathLike[str],
    config: FitConfig | None = None,
    report: Report | None = None,
) -> L2I:
    """Learn to explain a network from unlabelled recordings; what the network says of them is what is learnt.

    An interrupted call goes on where it was: what is finished stays in ``folder/training``, which may be removed at the
    end.

    Parameters
    ----------
    network : WindowedNetwork
        As `wrap` returns it.
    recordings : iterable of path-like or (samples, sample_rate)
        Some minutes to hours of what the network is meant for. Those that cannot be read are left out.
    folder : path-like
        Becomes the model folder, with ``trust.json``: what the interpretations are worth.
    config : FitConfig, optional
    report : callable, optional
        Receives the progress: stage, steps done, their number, and a few words.

    Returns
    -------
    L2I
        With `Trust` in ``model.training["trust"]``, as plain data.

    Raises
    ------
    ValueError
        Recordings that cannot be read or hold too little, or a folder made by another call.
    TypeError
        A network that is not wrapped.

    Warns
    -----
    RuntimeWarning
        Recordings that cannot be read, with the first reason.
    """
    if not isinstance(network, WindowedNetwork):
        raise TypeError(f"network is {shown(network)}, but must be wrapped first: l2i_fast.wrap(network, classes, ...)")
    if not is_several(recordings):
        raise TypeError(f"recordings is {shown(recordings)}, but must be a list of recordings")
    config, folder = FitConfig() if config is None else config, as_path("folder", folder)
    if not isinstance(config, FitConfig):
        raise TypeError(f"config is {shown(config)}, but must be a FitConfig")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder is {str(folder)!r}, but that is a file")
    told: Report = report or (lambda *_: None)
    sources = list(recordings)
    for i, source in enumerate(sources):
        if not isinstance(source, (str, os.PathLike, tuple, list)):
            raise TypeError(f"recordings[{i}] is {shown(source)}, but must be a path or (samples, sample_rate)")
    n_samples = round(config.seconds * network.analysis.sample_rate)
    work = folder / "training"
    key = fingerprint(
        network.fingerprint, network.layout_texts, network.settings, [f"{x:.3g}" for x in network.answer()],
        network.analysis, n_samples,
        [_identity(source) for source in sources],
    )  # fmt: skip
    heard = Heard(network, sources, n_samples, work / "heard", key, told)
    if heard.problems:
        reason = next(iter(heard.problems.values()))
        warnings.warn(
            f"{len(heard.problems)} of {len(sources)} recordings are left out: {reason}", RuntimeWarning, stacklevel=3
        )
    held = _held_out(sorted(set(heard.recordings)), config)
    chosen = [i for i, recording in enumerate(heard.recordings) if recording not in held]
    interpreter = train_post_hoc(network, heard, chosen, config, work, fingerprint(key, config), told)
    model = L2I(network, interpreter, config.selection, folder.name)
    trust = judge_fit(model, [sources[i] for i in sorted(held)][:_SCORED], n_samples, told)
    record = {
        "recordings": len(sources) - len(heard.problems),
        "problems": heard.problems,
        "config": config.to_dict(),
        "trust": {"recordings": trust.recordings, "figures": trust.figures, "controls": trust.controls},
    }
    model = L2I(network, interpreter, config.selection, folder.name, record)
    model.save(folder)
    text = json.dumps({**record["trust"], "words": trust.sentences()}, indent=2) + "\n"  # type: ignore[dict-item]
    write_whole(folder / "trust.json", lambda p: p.write_text(text, "utf-8"))
    return model


def trust_of(model: L2I) -> Trust:
    """Return what the interpretations of a fitted model are worth, as `fit` has found it.

    Raises
    ------
    ValueError
        A model that `fit` has not made.
    """
    try:
        return Trust(**model.training["trust"])
    except (KeyError, TypeError):
        raise ValueError(f"model {model.name!r} has no record of its trust, which fit makes") from None


def judge_fit(model: L2I, recordings: Sequence[Any], n_samples: int, report: Report) -> Trust:
    """Score the interpretations of recordings, cut to one piece each, that the model was not fitted to."""
    methods: dict[str, Callable[[L2I], Any]] = {
        "l2i": ListenToInterpret, "equal-energy": EqualEnergy, "constant": Constant.for_model,
    }  # fmt: skip
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    ranks, missed, total = [], 0.0, 0.0
    own, decided = [], []
    rate = model.sample_rate
    for start in range(0, len(recordings), _GROUP):
        group = recordings[start : start + _GROUP]
        sounds = [(pieces_of(read_sound(source, rate).samples, n_samples)[0], rate) for source in group]
        targets = [int(model.network.classify([y])[0].argmax()) for y, _ in sounds]
        for name, make in methods.items():
            results: list[Result] = make(model).explain(sounds, targets)
            for judgement in judge(model.network, results):
                rows[name].append({**scores(judgement), "kept": judgement.kept_share})
            if name == "l2i":
                for result, target in zip(results, targets, strict=True):
                    p = np.asarray(result.own_probabilities)
                    ranks.append(rank(p, target))
                    own.append(p)
                    decided.append(np.isin(result.labels, result.prediction))
                    V = np.asarray(model.network.analyze([result.input]).V[0])
                    missed += float(np.square(V - result.dictionary @ result.activations).sum())
                    total += float(np.square(V).sum())
        report("trust", min(start + _GROUP, len(recordings)), len(recordings), "")
    if not recordings:
        return Trust(0, {}, {})
    means = {name: _means(found) for name, found in rows.items()}
    ff = [row["FF"] for row in rows["l2i"]]
    figures = {
        "fidelity_top1": float(np.mean(np.asarray(ranks) < 1)),
        "fidelity_top3": float(np.mean(np.asarray(ranks) < 3)),
        "missed": missed / max(total, 1e-30),
        **means.pop("l2i"),
        "FF_error": float(np.std(ff) / np.sqrt(len(ff))),
    }
    if model.network.multilabel and np.any(decided):
        figures["mean_precision"] = multilabel(own, decided).macro
    return Trust(len(recordings), figures, means)


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {
        name: float(np.mean([row[name] for row in rows])) * (100 if name in ("AI", "AD", "AG") else 1)
        for name in rows[0]
    }


def _held_out(recordings: Sequence[int], config: FitConfig) -> set[int]:
    if len(recordings) < _FEWEST or not config.held_out:
        return set()
    order = np.random.default_rng(config.seed).permutation(recordings)
    return {int(i) for i in order[: min(len(recordings) - 1, max(1, round(config.held_out * len(recordings))))]}


def _identity(source: Any) -> tuple[Any, ...]:
    if isinstance(source, (tuple, list)):
        y, rate = np.ascontiguousarray(source[0]), source[1]
        return hashlib.blake2b(y.tobytes(), digest_size=16).hexdigest(), str(y.dtype), rate
    path = os.fspath(source)
    try:
        status = os.stat(path)
    except OSError:
        return (path,)
    return path, status.st_size, status.st_mtime_ns
