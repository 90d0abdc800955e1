"""`l2i evaluate`: score a model."""

from __future__ import annotations

import json

from l2i_fast.cli.console import show_progress
from l2i_fast.cli.options import Data, Folds, Model, Splits


def evaluate(model: Model = "esc10", data: Data = None, fold: Folds = None, split: Splits = None) -> None:
    """Score a model on recordings that it was not trained on, and print the figures as JSON."""
    from l2i_fast.data import load_dataset
    from l2i_fast.evaluation import evaluate, summarize
    from l2i_fast.model import load

    engine = load(model)
    dataset = load_dataset(data).select(folds=fold or None, split=split or None)
    with show_progress() as report:
        records = evaluate(engine, dataset, report)
    print(json.dumps(summarize(records), indent=2))
