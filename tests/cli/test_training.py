"""`l2i train`, `cross-validate`, `evaluate` and `data` without usable recordings."""

import pytest

from .support import assert_fails, run


@pytest.mark.parametrize("command", [["train", "-o", "x"], ["cross-validate", "-o", "x"]])
def test_training_without_recordings(place, command):
    assert_fails(run(*command), 1, "L2I_DATA")
    assert_fails(run(*command, "--data", "nowhere"), 1, "nowhere")
    assert_fails(run(*command, "--data", "."), 1, "no data set")
    assert_fails(run(*command, "--config", "nothing.json"), 1, "nothing.json")


def test_evaluation_without_recordings(place, tiny_folder):
    assert_fails(run("evaluate", "--model", tiny_folder, "--output", "scores"), 1, "L2I_DATA")


def test_fetching_from_nowhere(place):
    assert_fails(run("data", "esc50", "--url", "file:///etc/hosts"), 1, "url")
