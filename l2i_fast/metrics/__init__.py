"""Scores of explanations; they know results and networks, and no method."""

from l2i_fast.metrics.bootstrap import Interval, interval
from l2i_fast.metrics.judging import Judgement, judge

__all__ = ["Interval", "Judgement", "interval", "judge"]
