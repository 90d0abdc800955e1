"""`l2i page` and `l2i answers`: what they write, and one line for every error."""

import json

import pytest

from l2i_fast.results import Result

from .support import make_clip, run


@pytest.fixture
def interpreted(place, tiny_folder):
    """The folder out with the interpretations of two clips."""
    make_clip("other.wav", 3000, seed=1)
    assert run("interpret", "clip.wav", "other.wav", "-m", tiny_folder).exit_code == 0
    return place / "out"


def test_interpretations_become_a_page(interpreted):
    done = run("page", "out", "--output", "page", "--title", "My <clips>")
    assert done.exit_code == 0
    assert done.output == "page/index.html\n"
    text = (interpreted.parent / "page" / "index.html").read_text()
    assert "<title>My &lt;clips&gt;</title>" in text
    assert text.index("clip.wav") < text.index("other.wav")


def test_folders_in_the_order_given_become_one_file(interpreted):
    done = run("page", "out/other", "out/clip", "-o", "new/page.html", "--one-file")
    assert done.output == "new/page.html\n"
    text = (interpreted.parent / "new" / "page.html").read_text()
    assert text.index("other.wav") < text.index("clip.wav")
    assert [path.name for path in (interpreted.parent / "new").iterdir()] == ["page.html"]


def test_a_listening_test_and_its_answers(interpreted):
    done = run("page", "out", "-o", "test.html", "--one-file", "--listening-test", "--seed", 4)
    assert done.output == "test.html\ntest-key.json\n"
    key = json.loads((interpreted.parent / "test-key.json").read_text())
    assert key["seed"] == 4
    assert key["form"] == "rating"
    ratings = [{"position": 1, "seconds": 1.5, "ratings": {"1-1": 40}}]
    answers = {"version": 1, "test": key["test"], "listener": "me", "seed": 9, "answers": ratings}
    (interpreted.parent / "mine.json").write_text(json.dumps(answers))
    sample = key["sounds"]["1-1"]
    head = "listener,seed,position,seconds,section,sample,label,method,rating"
    line = f"me,9,1,1.5,Recordings,{sample['sample']},{sample['label']},l2i,40"
    assert run("answers", "mine.json", "--key", "test-key.json").output == f"{head}\n{line}\n"
    assert run("answers", "mine.json", "--key", "test-key.json", "-o", "table.csv").output == ""
    assert (interpreted.parent / "table.csv").read_text() == f"{head}\n{line}\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["out"], 2, "Missing option '--output' / '-o'"),
        (["-o", "page"], 2, "Missing argument 'OUT'"),
        (["clip.wav", "-o", "page"], 1, "OUT is 'clip.wav', but must be a folder that l2i evaluate or"),
        ([".", "-o", "page"], 1, "OUT is '.', but must be a folder that l2i evaluate or l2i interpret wrote"),
        (["out", "-o", "clip.wav"], 2, "output is 'clip.wav', but must be a folder: clip.wav is a file"),
        (["out", "-o", "out", "--one-file"], 1, "output is 'out', but must end in .html where it is one file"),
        (["out", "-o", "x.html", "--one-file"], 1, "x.html is a folder, but must be a file or a new name"),
        (["out", "-o", "page", "--method", "lime"], 1, "method is 'lime', but must be one of l2i"),
        (["out", "-o", "page", "--form", "mushra"], 2, "form is 'mushra', but must be one of rating, abx"),
        (["out", "-o", "page", "--seed", "-1"], 2, "seed is -1, but must be at least 0"),
        (["out", "-o", "page", "--listening-test", "--form", "abx"], 1, "sections holds no trial, but must hold two"),
    ],
)
def test_wrong_usage_is_one_line(interpreted, arguments, status, message):
    (interpreted.parent / "x.html").mkdir()
    done = run("page", *arguments)
    assert done.exit_code == status
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (interpreted.parent / "page").exists()


def test_a_damaged_result_is_one_line(interpreted):
    (interpreted / "clip" / "result.safetensors").write_bytes(b"")
    done = run("page", "out", "-o", "page")
    assert done.exit_code == 1
    assert "out/clip does not hold a whole result: result.safetensors is damaged" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (interpreted.parent / "page").exists()


def test_interpret_writes_what_load_reads(interpreted):
    result = Result.load("out/clip")
    assert result.source == "clip.wav"
    assert len(result.input) == 5000
