"""The audited network, its interpreter, and their folder on disk."""

from l2i_fast.model.l2i import L2I, Analyzed, find_model, load, shipped_models

__all__ = ["L2I", "Analyzed", "find_model", "load", "shipped_models"]
