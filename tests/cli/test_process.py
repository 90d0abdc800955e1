"""The process of the command: standard streams that are closed or full, and signals that end it."""

import signal
import subprocess
import sys
import textwrap

import pytest

import l2i_fast

from .support import ENVIRONMENT, files_in


def instead_of_doctor(work):
    """Return a program that runs `l2i doctor` with other work to do; without errors it prints no rows."""
    start = "import os, sys\nfrom pathlib import Path\nfrom l2i_fast.cli import doctor, main\ndef diagnose():\n"
    return f"{start}{textwrap.indent(work, '    ')}\n    return []\ndoctor.diagnose = diagnose\nmain()"


def in_shell(shell, code):
    """Return the words of a command that the shell runs, as `exec {} 2>&-`, which closes standard error."""
    return ["sh", "-c", shell.format('"$0" "$@"'), sys.executable, "-P", "-c", code]


def run_in_shell(shell, *arguments, code="from l2i_fast.cli import main; main()", **options):
    command = [*in_shell(shell, code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT, **options)


def start(work, folder, shell="exec {}"):
    command = [*in_shell(shell, instead_of_doctor(work)), "doctor", "--json"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, text=True, env=ENVIRONMENT, cwd=folder)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_neither_the_work_nor_its_status(tmp_path, closed):
    work = """
with open("made", "w") as file:
    print("message", file=sys.stderr)
    os.write(2, b"library")
    file.write("work")
"""
    done = run_in_shell(f"exec {{}} {closed}", "doctor", "--json", code=instead_of_doctor(work), cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "made").read_text() == "work"
    assert done.stdout == ("" if ">&-" in closed.split() else "[]\n")
    assert done.stderr == ("" if "2>&-" in closed.split() else "message\nlibrary")


def test_an_error_without_a_stream_that_takes_it_is_a_status_only(tmp_path):
    for redirection in ("2>&-", "2> /dev/full"):
        done = run_in_shell(f"exec {{}} {redirection}", "frobnicate")
        assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.parametrize("arguments", [["--version"], ["doctor", "--json"], ["--help"]])
def test_a_full_device_is_an_error_of_one_line(arguments):
    done = run_in_shell("exec {} > /dev/full", *arguments)
    assert (done.returncode, done.stderr) == (1, "l2i: error: No space left on device\n")


def test_messages_that_a_full_device_does_not_take_are_lost_and_nothing_else():
    code = instead_of_doctor("print('message', file=sys.stderr)")
    done = run_in_shell("exec {} 2> /dev/full", "doctor", "--json", code=code)
    assert (done.returncode, done.stdout) == (0, "[]\n")


def test_pictures_need_neither_the_users_settings_nor_a_home(tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nno.such.setting: 1\n")
    work = """
from io import BytesIO
from matplotlib.figure import Figure
from l2i_fast.results.picture import default_style
with default_style():
    figure = Figure()
    figure.text(0, 0, "text")
    figure.savefig(BytesIO())
"""
    shell = "MPLBACKEND=nonsense HOME=/dev/null exec {}"
    done = run_in_shell(shell, "doctor", "--json", code=instead_of_doctor(work), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_and_leaves_nothing_behind(tmp_path, number):
    work = """
from l2i_fast.files import whole, whole_set
with whole(Path("file")) as file, whole_set(Path("."), "last") as folder:
    file.write_text("half")
    (folder / "last").write_text("half")
    print("waiting", flush=True)
    sys.stdin.read()
"""
    with start(work, tmp_path) as process:
        assert process.stdout.readline() == "waiting\n"
        assert len(files_in(tmp_path)) == 2
        process.send_signal(number)
        told = process.stderr.read()
    assert (process.returncode, told) == (130, "l2i: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_signals_that_are_repeated_do_not_disturb_the_cleaning_up(tmp_path):
    work = """
try:
    print("waiting", flush=True)
    sys.stdin.readline()
finally:
    print("cleaning", flush=True)
    sys.stdin.readline()
    print("cleaned", flush=True)
"""
    with start(work, tmp_path) as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "cleaning\n"
        for number in (signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "cleaned\n"
        assert process.stderr.read() == "l2i: interrupted\n"
    assert process.returncode == 130


def test_a_signal_that_is_ignored_remains_ignored(tmp_path):
    """As SIGHUP below nohup."""
    work = "print('waiting', flush=True)\nsys.stdin.readline()"
    with start(work, tmp_path, shell="trap '' HUP; exec {}") as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGHUP)
        out, told = process.communicate("\n")
    assert (process.returncode, out, told) == (0, "[]\n", "")


def test_python_runs_the_package_as_the_command():
    for module in ("l2i_fast", "l2i_fast.cli"):
        command = [sys.executable, "-P", "-m", module, "--version"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
        assert (done.returncode, done.stdout) == (0, f"l2i_fast {l2i_fast.__version__}\n")


def test_a_signal_after_the_end_does_not_change_the_status(tmp_path):
    """As a closed terminal sends it while Python ends."""
    late = "import atexit, signal; atexit.register(lambda: [signal.raise_signal(n) for n in (1, 2, 15)])"
    done = run_in_shell("exec {}", "doctor", "--json", code=instead_of_doctor(late))
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_a_terminal_of_no_columns_is_written_to():
    done = run_in_shell("COLUMNS=0 exec {}", "doctor", "--help", code=instead_of_doctor(""))
    assert "Usage" in done.stdout
