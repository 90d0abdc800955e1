"""The command `l2i` as a whole: help, exit statuses, one line for every error, pipes and Ctrl-C."""

import pkgutil
import signal
import subprocess
import sys

import pytest

import l2i_fast
import l2i_fast.cli

from .support import ENVIRONMENT, assert_fails, files_in, run, run_process


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["interpret"], "FILE"),
        (["interpret", "clip.wav", "--no-such-option"], "--no-such-option"),
        (["interpret", "clip.wav", "--format", "mp3"], "--format"),
        (["interpret", "clip.wav", "--threshold", "much"], "--threshold"),
        (["frobnicate"], "frobnicate"),
        (["--no-such-option"], "--no-such-option"),
        (["data"], "command"),
        (["train"], "--output"),
        (["train", "-o", "x", "--stage", "all"], "--stage"),
        (["evaluate", "--fold", "one"], "--fold"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(place, arguments, word):
    assert_fails(run(*arguments), 2, word)
    assert files_in(place) == ["clip.wav"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["interpret", "clip.wav", "--top-k", "0"], "'--top-k': top_k is 0, but must be at least 1"),
        (["interpret", "clip.wav", "--top-k", "few"], "'--top-k': top_k is 'few', but must be an integer"),
        (["interpret", "clip.wav", "--threshold", "1"], "'--threshold': threshold is 1.0, but must be less than 1"),
        (["interpret", "clip.wav", "--threshold", "much"], "'--threshold': threshold is 'much', but must be a number"),
        (["interpret", "clip.wav", "--format", "mp3"], "'--format': format is 'mp3', but must be one of wav, flac"),
        (
            ["interpret", "clip.wav", "--domain", "mel"],
            "'--domain': domain is 'mel', but must be one of log, magnitude, wiener",
        ),
        (["stream", "clip.wav", "--refresh", "nan"], "'--refresh': refresh is nan, but must be at most 3600"),
        (["stream", "clip.wav", "--refresh", "0"], "'--refresh': refresh is 0.0, but must be at least 0.01"),
        (["stream", "-", "--rate", "0"], "'--rate': rate is 0, but must be at least 1"),
        (["stream", "-", "--block", "1.5"], "'--block': block is '1.5', but must be an integer"),
        (["stream", "-", "--channels", "-1"], "'--channels': channels is -1, but must be at least 1"),
        (["bench", "--threads", "1", "--threads", "0"], "'--threads': threads is 0, but must be at least 1"),
        (["bench", "--seconds", "-1"], "'--seconds': seconds is -1.0, but must be at least 0"),
        (["train", "-o", "x", "--fold", "one"], "'--fold': fold is 'one', but must be an integer"),
        (["train", "-o", "x", "--stage", "all"], "'--stage': stage is 'all', but must be one of dictionary, ..."),
        (["interpret", "clip.wav", "-o", "clip.wav"], "output is 'clip.wav', but must be a folder: clip.wav is a file"),
        (["demo", "-o", "clip.wav/x"], "output is 'clip.wav/x', but must be a folder: clip.wav is a file"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_what_is(place, arguments, message):
    done = run(*arguments)
    start, _, rest = message.partition("...")
    assert_fails(done, 2, start, f"{rest} (see 'l2i {arguments[0]} --help')")
    assert files_in(place) == ["clip.wav"]


def test_bare_command_shows_the_help_as_wrong_usage():
    done = run()
    assert done.exit_code == 2
    for command in ("interpret", "stream", "demo", "data", "doctor", "train", "evaluate"):
        assert command in done.stdout


@pytest.mark.parametrize(
    "arguments", [[], ["interpret"], ["stream"], ["demo"], ["data", "esc50"], ["doctor"], ["train"], ["evaluate"]]
)
def test_every_command_has_help(arguments):
    done = run(*arguments, "--help")
    assert done.exit_code == 0
    assert "Usage: l2i" in done.stdout


def test_version():
    done = run("--version")
    assert (done.exit_code, done.stdout) == (0, f"l2i_fast {l2i_fast.__version__}\n")


def test_help_and_the_bare_import_are_light():
    code = (
        "import sys\n"
        "sys.argv = ['l2i', '--help']\n"
        "from l2i_fast.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'matplotlib', 'librosa', 'soundfile'} & set(sys.modules)))"
    )
    done = run_process(code=code)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_no_traceback_from_the_process(place, tiny_folder):
    done = run_process("interpret", "missing.wav", "-m", tiny_folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "l2i: error: there is no file missing.wav\n"


def test_a_native_module_that_does_not_load_is_one_line(place):
    code = "import sys; sys.modules['l2i_fast._core'] = None; from l2i_fast.cli import main; main()"
    done = run_process("interpret", "clip.wav", code=code)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert run_process("doctor", code=code).returncode == 0


@pytest.mark.parametrize("arguments", [["--version"], ["doctor"], ["interpret", "clip.wav", "--json", "-m"]])
def test_a_closed_pipe_is_quiet(place, tiny_folder, arguments):
    command = [sys.executable, "-m", "l2i_fast.cli", *arguments, *([tiny_folder] if arguments[-1] == "-m" else [])]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, env=ENVIRONMENT) as process:
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (1, b"")


def test_ctrl_c_is_one_line_and_status_130(place):
    code = (
        "import sys, time\n"
        "import l2i_fast.cli.doctor\n"
        "def wait():\n"
        "    print('waiting', flush=True)\n"
        "    time.sleep(60)\n"
        "l2i_fast.cli.doctor.diagnose = wait\n"
        "sys.argv = ['l2i', 'doctor']\n"
        "from l2i_fast.cli import main\n"
        "main()"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-P", "-c", code], **pipes, text=True) as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert (process.returncode, told) == (130, "l2i: interrupted\n")


def test_a_name_that_the_terminal_cannot_show(place, tiny_folder):
    done = run_process("interpret", b"cl\xffp.wav".decode(errors="surrogateescape"), "-m", tiny_folder)
    assert (done.returncode, done.stderr) == (1, "l2i: error: there is no file cl\\udcffp.wav\n")


MODULES = [module.name for module in pkgutil.iter_modules(l2i_fast.cli.__path__) if module.name != "__main__"]


@pytest.mark.parametrize("name", MODULES)
def test_no_module_is_shadowed_by_its_command(name):
    assert getattr(l2i_fast.cli, name) is sys.modules[f"l2i_fast.cli.{name}"]
