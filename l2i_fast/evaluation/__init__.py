"""How well models classify and explain."""

from l2i_fast.evaluation.scoring import evaluate
from l2i_fast.evaluation.summary import Record, duplicate_components, summarize, unused_components

__all__ = ["Record", "duplicate_components", "evaluate", "summarize", "unused_components"]
