"""The models of an evaluation: no recording is explained by a model that was trained on it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from l2i_fast.data import Dataset
from l2i_fast.evaluation.models import load_parts
from l2i_fast.model.identity import identity_of

from ..conftest import make_model
from ..helpers import refused


@pytest.fixture
def crossed(tmp_path: Path) -> Path:
    """A folder like those of `l2i cross-validate`, with a model of its own for each fold and kind of Theta."""
    for fold in (1, 2):
        make_model(seed=fold).save(tmp_path / "crossed" / f"fold{fold}-attention")
        make_model("max", seed=10 + fold).save(tmp_path / "crossed" / f"fold{fold}-max")
    return tmp_path / "crossed"


def test_each_fold_is_explained_by_the_model_without_it(noises: Dataset, crossed: Path) -> None:
    parts = load_parts([crossed], noises)
    assert [(part.name, part.run) for part in parts] == [("crossed/fold1", "crossed"), ("crossed/fold2", "crossed")]
    for fold, part in zip((1, 2), parts, strict=True):
        assert identity_of(part.model) == identity_of(make_model(seed=fold))
        assert identity_of(part.variants["l2i-max"]) == identity_of(make_model("max", seed=10 + fold))
        assert {clip.fold for clip in part.scored.clips} == {fold}
        assert {clip.fold for clip in part.others.clips} == {3 - fold}
        assert part.others.classes == noises.classes
    assert sum(len(part.scored.clips) for part in parts) == len(noises.clips)


def test_chosen_folds_of_a_cross_validation(noises: Dataset, crossed: Path) -> None:
    (part,) = load_parts([crossed], noises, folds=[2])
    assert part.name == "crossed/fold2"
    assert {clip.fold for clip in part.others.clips} == {1}


def test_a_model_and_the_clips_it_may_learn_from(noises: Dataset, tmp_path: Path) -> None:
    make_model().save(tmp_path / "mine")
    (part,) = load_parts([tmp_path / "mine"], noises, folds=[1])
    assert (part.name, part.run, part.variants) == ("mine", "mine", {})
    assert {clip.fold for clip in part.scored.clips} == {1}
    assert {clip.fold for clip in part.others.clips} == {2}
    (part,) = load_parts([tmp_path / "mine"], noises)
    assert part.scored.clips == noises.clips
    assert part.others.clips == ()


def test_a_folder_is_named_by_its_own_name(noises: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model().save(tmp_path / "mine")
    (tmp_path / "mine" / "below").mkdir()
    monkeypatch.chdir(tmp_path / "mine" / "below")
    assert load_parts([".."], noises)[0].name == "mine"


def test_some_clips_of_each_class(noises: Dataset, crossed: Path) -> None:
    whole = load_parts([crossed], noises)
    for part, one in zip(whole, load_parts([crossed], noises, n_clips=2), strict=True):
        assert len(one.scored.clips) == 2 < len(part.scored.clips)
        assert set(one.scored.clips) < set(part.scored.clips)
        assert len({clip.labels for clip in one.scored.clips}) == 2
        assert one.others == part.others  # a clip of the fold that is not scored is not to learn from
    assert load_parts([crossed], noises, n_clips=99)[0].scored == whole[0].scored


def test_labels_follow_the_names_of_the_classes(noises: Dataset, tmp_path: Path) -> None:
    make_model().save(tmp_path / "mine")
    (expected,) = load_parts([tmp_path / "mine"], noises, folds=[1])
    turned = noises.classes[::-1]
    clips = tuple(
        dataclasses.replace(clip, labels=tuple(turned.index(noises.classes[c]) for c in clip.labels))
        for clip in noises.clips
    )
    (part,) = load_parts([tmp_path / "mine"], dataclasses.replace(noises, classes=turned, clips=clips), folds=[1])
    assert (part.scored, part.others) == (expected.scored, expected.others)
    some = noises.select(classes=noises.classes[2:])
    (part,) = load_parts([tmp_path / "mine"], some)
    assert part.scored.classes == noises.classes
    assert part.scored.clips == tuple(clip for clip in noises.clips if min(clip.labels) >= 2)


def test_refusals(noises: Dataset, crossed: Path, tmp_path: Path) -> None:
    missing = dataclasses.replace(noises, clips=(dataclasses.replace(noises.clips[0], fold=5), *noises.clips[1:]))
    home = crossed / "fold5-attention"
    with refused(ValueError, f"{crossed} has no model for fold 5, but each scored fold needs one: {home} is missing"):
        load_parts([crossed], missing)
    loose = dataclasses.replace(noises, clips=(dataclasses.replace(noises.clips[0], fold=None), *noises.clips[1:]))
    message = f"dataset noises has clips without a fold, but {crossed} has a model for each fold"
    with refused(ValueError, message):
        load_parts([crossed], loose)
    with refused(ValueError, "folds names 7, but the data set has: 1, 2"):
        load_parts([crossed], noises, folds=[7])
    for name in ("one", "two"):
        make_model().save(tmp_path / name / "mine")
    with refused(ValueError, "models names 'mine' twice, but each model must have a name of its own"):
        load_parts([tmp_path / "one" / "mine", tmp_path / "two" / "mine"], noises)
    other = dataclasses.replace(noises, classes=("dog", "rain", "clock tick", "saw"))
    message = "dataset has the classes saw, but all must be among the model's, dog, rain, clock tick, helicopter"
    with refused(ValueError, message):
        load_parts([tmp_path / "one" / "mine"], other)


def test_the_identity_tells_weights_and_selections_apart() -> None:
    model = make_model()
    assert identity_of(model) == identity_of(make_model())
    assert identity_of(model) != identity_of(make_model(seed=1))
    other = make_model()
    other.selection = dataclasses.replace(other.selection, threshold=0.123)
    assert identity_of(model) != identity_of(other)
    changed = make_model()
    next(iter(changed.interpreter.parameters())).data.view(-1)[0] += 1
    assert identity_of(model) != identity_of(changed)
