"""The model folder: config.json and model.safetensors, written whole and read without unpickling."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from l2i_fast.adapters import ADAPTERS
from l2i_fast.arguments import shown
from l2i_fast.files import as_path, locked, whole_set
from l2i_fast.model.audited import AuditedNetwork
from l2i_fast.model.front_end import LogMel
from l2i_fast.model.spectral import TorchNetwork, require_spectral
from l2i_fast.model.windowed import Origin, WindowedNetwork
from l2i_fast.model.wrapping import find_network, wrap
from l2i_fast.networks.classifier import Classifier
from l2i_fast.networks.interpreter import Interpreter
from l2i_fast.settings import Analysis, Section, Selection, from_dict, read_json

#: Version of the layout of a model folder.
FORMAT = 1
#: Modules of audited networks that a folder can hold, each with a `config` of the arguments that build it again. The
#: name is that of its section in config.json and the prefix of its weights.
KINDS: dict[str, type[Classifier]] = {"classifier": Classifier}
#: The other entries of config.json, besides its format.
_ENTRIES = "name", "classes", "multilabel", "decision", "analysis", "selection", "interpreter", "training"

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Contents(NamedTuple):
    """The parts of a model that its folder holds."""

    network: AuditedNetwork
    interpreter: Interpreter
    selection: Selection
    name: str
    training: Mapping[str, Any]


def write_model(folder: str | os.PathLike[str], contents: Contents) -> Path:
    """Write config.json and model.safetensors into `folder`, each whole or not at all.

    Both hold a fingerprint of the weights, by which `read_model` notices files of different models.

    Raises
    ------
    TypeError
        `folder` is no path.
    ValueError
        A network of a kind that `read_model` could not build again from its configuration, or a record of the training
        that JSON cannot write.
    """
    network = contents.network
    folder = as_path("folder", folder)
    if isinstance(network, WindowedNetwork):
        sections: dict[str, Any] = {"network": dataclasses.asdict(MadeAgain.of(network))}
        weights: dict[str, Tensor] = {}
    else:
        sections, weights = _written(network)
    weights |= {f"interpreter.{k}": v for k, v in contents.interpreter.state_dict().items()}
    weights = {k: v.cpu().contiguous() for k, v in weights.items() if not k.endswith("num_batches_tracked")}
    fingerprint = hashlib.blake2b(save(weights), digest_size=16).hexdigest()
    config = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "name": contents.name,
        "classes": list(network.classes),
        "multilabel": network.multilabel,
        "decision": list(network.decision),
        "analysis": dataclasses.asdict(network.analysis),
        "selection": dataclasses.asdict(contents.selection),
        **sections,
        "interpreter": contents.interpreter.config,
        "training": dict(contents.training),
    }
    try:
        text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"training holds what JSON cannot write: {error}") from error
    with whole_set(folder, last="config.json") as partial:
        (partial / "model.safetensors").write_bytes(save(weights, metadata={"fingerprint": fingerprint}))
        (partial / "config.json").write_text(text, encoding="utf-8")
    return folder


def _written(network: AuditedNetwork) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the sections of config.json and the weights by which a network of ours is built again."""
    front_end = require_spectral(network, "save").front_end
    if not isinstance(front_end, LogMel):
        raise ValueError(f"the front end is a {type(front_end).__name__}, but save can write only LogMel")
    module = network.module if isinstance(network, TorchNetwork) else network
    for kind, cls in KINDS.items():
        if isinstance(module, cls):
            weights = {f"{kind}.{k}": v for k, v in module.state_dict().items()}
            return {kind: module.config, "layers": list(network.layers)}, weights
    known = ", ".join(f"{cls.__name__} of {cls.__module__}" for cls in KINDS.values())
    raise ValueError(f"the network is a {type(module).__name__}, but save can write only {known}")


def read_model(name_or_folder: str | os.PathLike[str], network: WindowedNetwork | str | None = None) -> Contents:
    """Read a model: the name of one that ships with the package, or a folder made by `write_model`.

    Nothing is unpickled, nothing is fetched, and no code is run that a folder names: a network of the user's is given.

    Parameters
    ----------
    name_or_folder : str or path-like
    network : WindowedNetwork or str, optional
        The network of a model that was fitted to it, or the function that makes it, as ``file.py:function`` or
        ``package.module:function``. Adapters are made again without it.

    Raises
    ------
    ValueError
        An unknown name, a folder whose files are not a model of this format, or a network that is missing or has
        changed.
    """
    folder = find_model(name_or_folder)
    config_file, weights_file = folder / "config.json", folder / "model.safetensors"
    with locked(folder):
        config = read_json(config_file)
        try:
            weights = load_file(weights_file)
            with safe_open(weights_file, "pt") as file:
                fingerprint = (file.metadata() or {}).get("fingerprint")
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{weights_file} cannot be read as safetensors: {error}") from error
    found = config.get("format") if isinstance(config, dict) else None
    if found != FORMAT or found is True:
        raise ValueError(f"the format of {config_file} is {shown(found)}, but must be {FORMAT}")
    needed = config.get("fingerprint")
    if fingerprint and needed and fingerprint != needed:
        raise ValueError(f"the fingerprint of {weights_file} is {fingerprint}, but config.json is of {needed}")
    theirs = isinstance(config, dict) and "network" in config
    if network is not None and not theirs:
        raise ValueError(f"network is given, but {folder} holds a network of its own")
    try:
        kind = next((kind for kind in KINDS if kind in config), next(iter(KINDS)))
        for name in _ENTRIES if theirs else (*_ENTRIES, "layers", kind):
            if name not in config:
                raise ValueError(f"config.json has no entry {name!r}")
        if "interpreter.dictionary" not in weights:
            raise ValueError("the weight interpreter.dictionary is missing")
        dictionary = weights["interpreter.dictionary"]
        analysis = from_dict(Analysis, config["analysis"], "analysis")
        interpreter = _built(Interpreter, "interpreter", config["interpreter"], dictionary)
        _load_weights(interpreter, "interpreter.", weights)
        selection = from_dict(Selection, config["selection"], "selection")
        for name, kind_of_entry in (("name", str), ("training", dict)):
            if not isinstance(config[name], kind_of_entry):
                allowed = "a string" if kind_of_entry is str else "an object with named values"
                raise ValueError(f"{name} is {shown(config[name])}, but must be {allowed}")
        classes, multilabel, decision = config["classes"], config["multilabel"], config["decision"]
        audited: AuditedNetwork | None = None
        if theirs:
            made = from_dict(MadeAgain, config["network"], "network")
        else:
            module = _built(KINDS[kind], kind, config[kind])
            _load_weights(module, f"{kind}.", weights)
            audited = TorchNetwork(module, LogMel(analysis), classes, config["layers"], multilabel, decision)
            audited.check_interpreter(interpreter)
    except (TypeError, RuntimeError, ValueError) as error:
        what = " ".join(str(error).split()).rstrip(".")  # torch writes several lines
        raise ValueError(f"{folder} does not hold a model of this format: {what}") from error
    if audited is None:
        audited = made.network(network, classes, decision, analysis)
    return Contents(audited, interpreter, selection, config["name"], config["training"])


@dataclass(frozen=True)
class MadeAgain(Section):
    """The section of config.json by which a network of the user's is made again, and known again.

    Attributes
    ----------
    factory : str
        Name of an adapter, or what made it, as ``file.py:function``; empty if that is not known.
    arguments : dict
        Of the adapter.
    fingerprint : str
    layers : dict
        Names and layouts.
    settings : dict
        How it is wrapped.
    answer : tuple of float
        To a fixed signal: see `WindowedNetwork.answer`.
    """

    factory: str
    arguments: dict[str, Any]
    fingerprint: str
    layers: dict[str, str]
    settings: dict[str, Any]
    answer: tuple[float, ...]

    @classmethod
    def of(cls, network: WindowedNetwork) -> Self:
        """Return the section of a network."""
        origin = network.origin or Origin("", {})
        layers, settings, answer = network.layout_texts, network.settings, tuple(network.answer())
        return cls(origin.factory, dict(origin.arguments), network.fingerprint, layers, settings, answer)

    def network(
        self, given: WindowedNetwork | str | None, classes: Any, decision: Any, analysis: Analysis
    ) -> WindowedNetwork:
        """Return the network as it was when the model was fitted to it: the given one, or an adapter's.

        Raises
        ------
        ValueError
            It is missing, or another one.
        """
        if isinstance(given, str):
            found = find_network(given)
        elif isinstance(given, WindowedNetwork):
            found = given
        elif given is not None:
            raise TypeError(
                f"network is {shown(given)}, but must be wrapped first: l2i_fast.wrap(network, classes, ...)"
            )
        elif self.factory in ADAPTERS:
            found = wrap(self.factory, layers=self.layers, decision=decision, analysis=analysis, **self.arguments)
        else:
            made = f", as by {self.factory!r}" if self.factory else ""
            raise ValueError(f"network is None, but the model was fitted to one of yours, which must be given{made}")
        if list(found.classes) != classes:
            pairs = itertools.zip_longest(found.classes, classes, fillvalue="none")
            one, other = zip(*[pair for pair in pairs if pair[0] != pair[1]][:3], strict=True)
            raise ValueError(
                f"network has other classes than the model: {', '.join(one)} in place of {', '.join(map(str, other))}"
            )
        if found.fingerprint != self.fingerprint:
            raise ValueError("network has changed since the model was fitted to it: fit it again")
        if list(found.layout_texts.items()) != list(self.layers.items()) or found.analysis != analysis:
            raise ValueError("network is wrapped in another way than when the model was fitted to it: fit it again")
        for name, value in found.settings.items():
            if value != self.settings.get(name):
                before = self.settings.get(name)
                raise ValueError(
                    f"network has {name} {value}, but the model was fitted to it with {before}: fit it again"
                )
        if not np.allclose(found.answer(), self.answer, rtol=0.02, atol=0.02):
            raise ValueError(
                "network answers otherwise than when the model was fitted to it, with the same weights: "
                "its front end or its code has changed"
            )
        return found


def _built(cls: type[ModuleT], section: str, values: Any, *given: Any) -> ModuleT:
    """Return a module built from a section of config.json, after arguments that are `given`."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{section} is {shown(values)}, but must be an object with named values")
    try:
        inspect.signature(cls).bind(*given, **values)
    except TypeError as error:  # says which argument is missing or unknown
        raise ValueError(f"{section} does not fit {cls.__name__}: {error}") from None
    try:
        with torch.device("meta"):  # without memory: initial values would be drawn from the caller's random numbers
            return cls(*given, **values)
    except (TypeError, ValueError) as error:  # it begins with the argument's name
        raise ValueError(f"{section}.{error}") from None


def _load_weights(module: nn.Module, prefix: str, weights: Mapping[str, Tensor]) -> None:
    state = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    counters = {k for k in module.state_dict() if k.endswith("num_batches_tracked")}
    module.to_empty(device="cpu")
    for k in counters:
        module.get_buffer(k).zero_()
    for name, needed in module.state_dict().items():
        found = state.get(name, needed)
        if found.shape != needed.shape:
            wanted = f"{tuple(needed.shape)} is needed"
            raise ValueError(f"the weight {prefix}{name} has shape {tuple(found.shape)}, but {wanted}")
        if name not in counters and found.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise ValueError(f"the weight {prefix}{name} has dtype {found.dtype}, but floating numbers are needed")
    missing, unexpected = module.load_state_dict(state, strict=False)
    wrong = sorted((set(missing) - counters) | set(unexpected))
    if wrong:
        raise ValueError(f"the weight {prefix}{wrong[0]} is {'missing' if wrong[0] in missing else 'unexpected'}")
    for name, values in state.items():
        if not bool(values.isfinite().all()):
            raise ValueError(f"the weight {prefix}{name} holds NaN or infinity")


def shipped_models() -> dict[str, Path]:
    """Return the models that ship with the package: name and folder."""
    root = Path(__file__).parents[1] / "shipped"
    return {p.parent.name: p.parent for p in sorted(root.glob("*/config.json"))}


def find_model(name_or_folder: str | os.PathLike[str]) -> Path:
    """Return the folder of a model that ships with the package, or of one made by `L2I.save`.

    Raises
    ------
    ValueError
        Neither the name of a shipped model nor a folder with a config.json.
    """
    shipped = shipped_models()
    if isinstance(name_or_folder, str) and name_or_folder in shipped:
        return shipped[name_or_folder]
    folder = as_path("model", name_or_folder)
    if not (folder / "config.json").is_file():
        known = ", ".join(shipped) or "none"
        raise ValueError(
            f"model is {str(name_or_folder)!r}, but must be the name of a shipped model ({known}) or a folder with a "
            "config.json"
        )
    return folder
