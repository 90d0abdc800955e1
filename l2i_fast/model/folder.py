"""The model folder: config.json and model.safetensors, written whole and read without unpickling."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from l2i_fast.arguments import shown
from l2i_fast.files import as_path, locked, whole_set
from l2i_fast.model.audited import AuditedNetwork, TorchNetwork
from l2i_fast.model.front_end import LogMel
from l2i_fast.networks.classifier import Classifier
from l2i_fast.networks.interpreter import Interpreter
from l2i_fast.settings import Analysis, Selection, from_dict, read_json

#: Version of the layout of a model folder.
FORMAT = 1
#: Modules of audited networks that a folder can hold, each with a `config` of the arguments that build it again. The
#: name is that of its section in config.json and the prefix of its weights.
KINDS: dict[str, type[Classifier]] = {"classifier": Classifier}
#: The other entries of config.json, besides its format.
_ENTRIES = "name", "classes", "multilabel", "decision", "analysis", "selection", "layers", "interpreter", "training"

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
    kind, module, analysis = _writable(network)
    folder = as_path("folder", folder)
    weights = {f"{kind}.{k}": v for k, v in module.state_dict().items()}
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
        "analysis": dataclasses.asdict(analysis),
        "selection": dataclasses.asdict(contents.selection),
        kind: module.config,
        "layers": list(network.layers),
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


def _writable(network: AuditedNetwork) -> tuple[str, Classifier, Analysis]:
    """Return the kind, the module and the analysis of a network that can be written."""
    if not isinstance(network.front_end, LogMel):
        raise ValueError(f"the front end is a {type(network.front_end).__name__}, but save can write only LogMel")
    module = network.module if isinstance(network, TorchNetwork) else network
    for kind, cls in KINDS.items():
        if isinstance(module, cls):
            return kind, module, network.front_end.analysis
    known = ", ".join(f"{cls.__name__} of {cls.__module__}" for cls in KINDS.values())
    raise ValueError(f"the network is a {type(module).__name__}, but save can write only {known}")


def read_model(name_or_folder: str | os.PathLike[str]) -> Contents:
    """Read a model: the name of one that ships with the package, or a folder made by `write_model`.

    Nothing is unpickled and nothing is fetched.

    Raises
    ------
    ValueError
        An unknown name, or a folder whose files are not a model of this format.
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
    try:
        kind = next((kind for kind in KINDS if kind in config), next(iter(KINDS)))
        for name in (*_ENTRIES, kind):
            if name not in config:
                raise ValueError(f"config.json has no entry {name!r}")
        if "interpreter.dictionary" not in weights:
            raise ValueError("the weight interpreter.dictionary is missing")
        dictionary = weights["interpreter.dictionary"]
        with torch.device("meta"):  # without memory: initial values would be drawn from the caller's random numbers
            module = _built(KINDS[kind], kind, config[kind])
            interpreter = _built(Interpreter, "interpreter", config["interpreter"], dictionary)
        _load_weights(module, f"{kind}.", weights)
        _load_weights(interpreter, "interpreter.", weights)
        front_end = LogMel(from_dict(Analysis, config["analysis"], "analysis"))
        network = TorchNetwork(
            module, front_end, config["classes"], config["layers"], config["multilabel"], config["decision"]
        )
        network.check_interpreter(interpreter)
        selection = from_dict(Selection, config["selection"], "selection")
        for name, kind_of_entry in (("name", str), ("training", dict)):
            if not isinstance(config[name], kind_of_entry):
                allowed = "a string" if kind_of_entry is str else "an object with named values"
                raise ValueError(f"{name} is {shown(config[name])}, but must be {allowed}")
        return Contents(network, interpreter, selection, config["name"], config["training"])
    except (TypeError, RuntimeError, ValueError) as error:
        what = " ".join(str(error).split()).rstrip(".")  # torch writes several lines
        raise ValueError(f"{folder} does not hold a model of this format: {what}") from error


def _built(cls: type[ModuleT], section: str, values: Any, *given: Any) -> ModuleT:
    """Return a module built from a section of config.json, after arguments that are `given`."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{section} is {shown(values)}, but must be an object with named values")
    try:
        inspect.signature(cls).bind(*given, **values)
    except TypeError as error:  # says which argument is missing or unknown
        raise ValueError(f"{section} does not fit {cls.__name__}: {error}") from None
    try:
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
