"""The audited network with its interpreter, and their folder on disk."""

from l2i_fast.model.audited import Answers, AuditedNetwork, Differentiable, Local, Spectra, Split
from l2i_fast.model.folder import find_model, shipped_models
from l2i_fast.model.front_end import FrontEnd, LogMel
from l2i_fast.model.l2i import L2I, Analyzed, load
from l2i_fast.model.spectral import SpectralNetwork, TorchNetwork, require_spectral

__all__ = [
    "L2I",
    "Analyzed",
    "Answers",
    "AuditedNetwork",
    "Differentiable",
    "FrontEnd",
    "Local",
    "LogMel",
    "Spectra",
    "SpectralNetwork",
    "Split",
    "TorchNetwork",
    "find_model",
    "load",
    "require_spectral",
    "shipped_models",
]
