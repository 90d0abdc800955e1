"""`l2i doctor`: it reports what is available, the reason for everything missing, and never fails."""

import builtins
import dataclasses
import json
import subprocess
import sys
from types import ModuleType

import pytest
from rich.console import Console

import l2i_fast
from l2i_fast.cli import doctor

from .support import run

ROWS = {
    "versions": {
        "l2i_fast",
        "Python",
        "NumPy",
        "SciPy",
        "torch",
        "soundfile",
        "soxr",
        "matplotlib",
    },
    "processor": {"model", "cores", "threads"},
    "backends": {"native CPU", "CUDA", "CUDA library", "Triton", "OpenVINO"},
    "sound": {"microphone, speaker"},
    "models": {"shipped"},
    "data": {"recordings"},
}


def rows():
    return {(check.group, check.name): check for check in doctor.diagnose()}


@pytest.fixture
def without(monkeypatch):
    """Make imports of some modules fail, as if they were missing or broken."""

    def hide(*names, error=ModuleNotFoundError):
        real = builtins.__import__

        def fake(name, globals=None, locals=None, fromlist=(), level=0):
            wanted = {name, *(f"{name}.{part}" for part in fromlist or ())}
            if wanted & set(names):
                raise error(f"No module named {name!r}")
            return real(name, globals, locals, fromlist, level)

        for name in names:
            monkeypatch.delitem(sys.modules, name, raising=False)
            parent, _, child = name.rpartition(".")
            if parent:
                monkeypatch.delattr(sys.modules[parent], child, raising=False)
        monkeypatch.setattr(builtins, "__import__", fake)
        real_import_module = doctor.importlib.import_module

        def import_module(name):
            if name in names:
                raise error(f"No module named {name!r}")
            return real_import_module(name)

        monkeypatch.setattr(doctor.importlib, "import_module", import_module)

    return hide


@pytest.fixture
def forget_backends():
    """Make the next import load the backends anew, without the modules that a test hides."""

    def loaded():
        return [name for name in sys.modules if f"{name}.".startswith("l2i_fast.backends.")]

    def forget():
        for name in loaded():
            del sys.modules[name]
        vars(l2i_fast).pop("backends", None)

    before = {name: sys.modules[name] for name in loaded()}
    yield forget
    forget()
    sys.modules.update(before)
    l2i_fast.backends = before["l2i_fast.backends"]


def test_every_row_is_there_and_plain():
    checks = doctor.diagnose()
    found = {}
    for check in checks:
        found.setdefault(check.group, set()).add(check.name)
        assert check.status in ("ok", "absent", "broken")
        assert check.detail
        assert "\n" not in check.detail
    assert found == ROWS
    json.dumps([dataclasses.asdict(check) for check in checks], allow_nan=False)


def test_versions_are_those_installed():
    pytest.importorskip("soundfile")
    found = rows()
    assert found["versions", "l2i_fast"].detail == l2i_fast.__version__
    assert found["versions", "Python"].detail == ".".join(map(str, sys.version_info[:3]))
    assert "libsndfile" in found["versions", "soundfile"].detail


def test_native_row_names_the_path_in_use():
    from l2i_fast import _core

    check = rows()["backends", "native CPU"]
    assert check.status == "ok"
    assert f"path {_core.cpu_features()['path']}" in check.detail
    assert f"; {_core.get_num_threads()} threads;" in check.detail


def test_a_forced_backend_is_named(monkeypatch):
    monkeypatch.setenv("L2I_BACKEND", "cuda")
    assert rows()["backends", "native CPU"].detail.endswith("; L2I_BACKEND=cuda")
    monkeypatch.setenv("L2I_BACKEND", "none")
    check = rows()["backends", "native CPU"]
    assert (check.status, "L2I_BACKEND is 'none', but must be one of" in check.detail) == ("broken", True)


def test_a_native_module_that_fails_to_import_is_a_row(without, forget_backends):
    without("l2i_fast._core", error=ImportError)
    forget_backends()
    check = rows()["backends", "native CPU"]
    assert check.status == "broken"
    assert check.detail.startswith("ImportError")


def test_missing_packages_are_rows_too(without):
    without("torch", "soundfile", "triton", "openvino", "l2i_fast.model")
    found = rows()
    assert found["versions", "torch"].status == "broken"
    assert found["versions", "soundfile"].status == "broken"
    assert found["backends", "CUDA"].status == "broken"
    assert found["processor", "threads"].status == "broken"
    assert found["models", "shipped"].status == "broken"
    assert found["backends", "Triton"].status == "absent"
    assert found["backends", "OpenVINO"].status == "absent"
    assert found["versions", "NumPy"].status == "ok"


def test_the_library_for_gpus_may_be_missing(monkeypatch, without, forget_backends):
    without("l2i_fast._cuda")
    forget_backends()
    assert rows()["backends", "CUDA library"].status == "absent"
    library = ModuleType("l2i_fast._cuda")
    monkeypatch.setattr(doctor.importlib, "import_module", lambda name: library)
    for answer, status in (((False, "no driver"), "absent"), ((True, ""), "ok")):
        library.available = lambda answer=answer: answer
        forget_backends()
        check = doctor._check("backends", "CUDA library", doctor._cuda_library)
        assert check.status == status
        assert ("no driver" in check.detail) is not answer[0]


def test_an_installed_but_broken_backend_is_broken(without):
    without("openvino", error=OSError)
    assert rows()["backends", "OpenVINO"].status == "broken"


@pytest.mark.parametrize(
    ("error", "words"), [(ModuleNotFoundError, "l2i_fast[live]"), (OSError, "apt install libportaudio2")]
)
def test_without_sound_devices_the_row_says_what_to_install(without, error, words):
    without("sounddevice", error=error)
    check = rows()["sound", "microphone, speaker"]
    assert check.status == "absent"
    assert words in check.detail


@pytest.mark.parametrize(
    ("devices", "status", "words"),
    [([], "absent", "no sound device"), ([{}], "ok", "1 device,"), ([{}, {}], "ok", "2 devices,")],
)
def test_sound_devices_are_counted(monkeypatch, devices, status, words):
    sound = ModuleType("sounddevice")
    sound.__version__ = "0.5"
    sound.query_devices = lambda: devices
    sound.get_portaudio_version = lambda: (1, "PortAudio V19.7, revision 1")
    monkeypatch.setitem(sys.modules, "sounddevice", sound)
    check = rows()["sound", "microphone, speaker"]
    assert check.status == status
    assert words in check.detail
    assert "sounddevice 0.5 (PortAudio V19.7)" in check.detail


def test_no_shipped_model_is_broken(monkeypatch):
    monkeypatch.setattr("l2i_fast.model.shipped_models", dict)
    check = rows()["models", "shipped"]
    assert (check.status, "no model" in check.detail) == ("broken", True)


def test_shipped_models_are_named_with_their_size(monkeypatch, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(bytes(1_300_000))
    monkeypatch.setattr("l2i_fast.model.shipped_models", lambda: {"mine": tmp_path})
    assert rows()["models", "shipped"].detail == "mine (1.3 MB)"


def test_data_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("L2I_DATA", raising=False)
    assert rows()["data", "recordings"].status == "absent"
    monkeypatch.setenv("L2I_DATA", str(tmp_path / "nowhere"))
    check = rows()["data", "recordings"]
    assert check.status == "broken"
    assert "nowhere" in check.detail


def test_recordings_are_counted(monkeypatch, esc10):
    monkeypatch.setenv("L2I_DATA", str(esc10.clips[0].path.parents[1]))
    check = rows()["data", "recordings"]
    assert check.status == "ok"
    assert f"{len(esc10.clips)} clips of 10 classes" in check.detail


def test_table_shows_every_row():
    console = Console(width=200)
    with console.capture() as shown:
        console.print(
            doctor.render(
                [
                    doctor.Check("a", "first", "ok", "fine [1]"),
                    doctor.Check("a", "second", "absent", "not here"),
                    doctor.Check("b", "third", "broken", "ImportError: x"),
                ]
            )
        )
    lines = [" ".join(line.split()) for line in shown.get().splitlines()]
    assert lines == ["a ok first fine [1]", "-- second not here", "", "b !! third ImportError: x"]


def test_the_package_imports_without_the_native_module():
    code = (
        "import sys; sys.modules['l2i_fast._core'] = None\n"
        "from l2i_fast.cli.doctor import diagnose\n"
        "print({c.name: c.status for c in diagnose()}['native CPU'])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "broken", done.stderr


def test_the_command_prints_a_table_or_json():
    done = run("doctor")
    assert done.exit_code == 0
    assert "native CPU" in done.stdout
    checks = json.loads(run("doctor", "--json").stdout)
    assert {"group": "versions", "name": "l2i_fast", "status": "ok", "detail": l2i_fast.__version__} in checks
