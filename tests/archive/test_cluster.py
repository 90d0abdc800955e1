"""Runs on real Ray clusters of this machine: the tables and the sound are those of a run without, whoever dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import l2i_fast.archive.cluster as cluster_module
from l2i_fast.archive.tables import read_events
from l2i_fast.archive.work import Job, Outcome, Unit, do
from l2i_fast.files import PARTIAL

from ..helpers import refused
from .support import batch, contents, make_units_small, noise, problems, run

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402 - only if there is Ray

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of two nodes with a core each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        try:
            cluster.add_node(**NODE)
            yield cluster
        finally:
            cluster.shutdown()


@pytest.fixture(scope="module")
def archive(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Recordings, some of several units, and the digests of what an undisturbed run in this process gives."""
    folder = tmp_path_factory.mktemp("archive")
    for i in range(8):
        noise(folder / "in" / f"{i}.wav", [1.0, 6.0, 0.4, 3.1][i % 4], seed=i)
    (folder / "in" / "broken.wav").write_text("no sound")
    with pytest.MonkeyPatch.context() as patch:
        make_units_small(patch)
        run(model, [folder / "in"], folder / "out")
    return folder / "in", contents(folder / "out")


def whole(folder: Path) -> dict[str, str]:
    """Return the digests of a run's files, of which none may be unfinished."""
    assert not [path for path in folder.rglob("*") if path.name.startswith(PARTIAL)]
    return contents(folder)


Do = Callable[[Sequence[Unit], Job], list[Outcome]]


class Meeting:
    """Lets actors go on only when so many nodes have had a task; a node signs by a file."""

    def __init__(self, folder: Path, n_nodes: int) -> None:
        self.folder = folder
        folder.mkdir()
        self.expect(n_nodes)

    def expect(self, n_nodes: int) -> None:
        (self.folder / "expected").write_text(f"{n_nodes} ")

    def nodes(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"expected"}

    def then(self, function: Do) -> Do:
        folder = self.folder

        def do_after(units: Sequence[Unit], job: Job) -> list[Outcome]:
            import ray

            (folder / ray.get_runtime_context().get_node_id()).touch()
            end = time.monotonic() + 90
            while len(os.listdir(folder)) <= int((folder / "expected").read_text() or 99) and time.monotonic() < end:
                time.sleep(0.1)
            return function(units, job)

        return do_after


@pytest.mark.usefixtures("small_units")
def test_a_local_ray_gives_the_same_and_ends(model: Path, tmp_path: Path, archive: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    recordings, wanted = archive
    done = run(model, [recordings], tmp_path / "out", n_jobs=2, cluster="local")
    assert whole(tmp_path / "out") == wanted
    assert done.problems == 1
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) == before
    # The cluster is no part of what the folder belongs to, and with nothing to do none is sought.
    for cluster in (None, "127.0.0.1:1"):
        assert not list(batch(model, [recordings], tmp_path / "out", cluster=cluster))


@pytest.mark.usefixtures("small_units")
def test_an_actor_that_is_killed_changes_nothing(
    model: Path, tmp_path: Path, archive: Any, nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings, wanted = archive
    meeting = Meeting(tmp_path / "nodes", 2)
    once = str(tmp_path / "killed")

    def do_or_die(units: Sequence[Unit], job: Job) -> list[Outcome]:
        outcomes = do(units, job)  # with all sound written
        if units[0].recording.path.endswith("5.wav") and units[0].first == 3 and not os.path.exists(once):
            open(once, "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return outcomes

    monkeypatch.setattr(cluster_module, "do", meeting.then(do_or_die))
    run(model, [recordings], tmp_path / "out", n_jobs=2, cluster=nodes.address)
    assert os.path.exists(once)
    assert whole(tmp_path / "out") == wanted
    assert len(meeting.nodes()) == 2


@pytest.mark.usefixtures("small_units")
def test_a_node_that_is_killed_changes_nothing_and_one_that_joins_helps(
    model: Path, tmp_path: Path, archive: Any, nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings, wanted = archive
    monkeypatch.setattr(cluster_module, "_LOOK", 0.5)
    meeting = Meeting(tmp_path / "nodes", 2)
    monkeypatch.setattr(cluster_module, "do", meeting.then(do))
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    rows = iter(batch(model, [recordings], tmp_path / "out", n_jobs=None, cluster="auto"))
    next(rows)
    (other,) = nodes.worker_nodes
    meeting.expect(3)
    nodes.remove_node(other, allow_graceful=False)
    added = nodes.add_node(**NODE)
    for _ in rows:
        pass
    assert whole(tmp_path / "out") == wanted
    assert {other.node_id, added.node_id} < meeting.nodes()


@pytest.mark.usefixtures("small_units")
def test_a_recording_that_kills_its_actors_is_noted(
    model: Path, tmp_path: Path, archive: Any, nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings, wanted = archive

    def do_or_die(units: Sequence[Unit], job: Job) -> list[Outcome]:
        if any(unit.recording.path.endswith("/3.wav") for unit in units):
            os.kill(os.getpid(), signal.SIGKILL)
        return do(units, job)

    monkeypatch.setattr(cluster_module, "do", do_or_die)
    monkeypatch.setattr(cluster_module, "_PATIENCE", 0.0)
    monkeypatch.chdir(tmp_path)  # whose folder Ray gives the workers to import from
    # A connection that the caller has made is used, and left as it is.
    ray.init(nodes.address, log_to_driver=False, logging_level="ERROR")
    try:
        with pytest.warns(UserWarning, match=r"no worker has started yet: each needs a CPU, and \d of the cluster's"):
            run(model, [recordings], tmp_path / "out", n_jobs=2, cluster="auto")
        assert ray.is_initialized()
    finally:
        ray.shutdown()
    assert dict(problems(tmp_path / "out")) == {"3.wav": "crashed", "broken.wav": "damaged"}
    heard = {Path(row["recording"]).name for row in read_events(tmp_path / "out")}
    assert heard >= {"1.wav", "5.wav", "7.wav"}
    assert "3.wav" not in heard
    run(model, [recordings], tmp_path / "out")
    assert whole(tmp_path / "out") == wanted


@pytest.mark.usefixtures("small_units")
def test_what_nodes_do_not_see_is_one_error(
    model: Path, tmp_path: Path, archive: Any, nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings, wanted = archive
    start = cluster_module._start
    elsewhere = tmp_path / "elsewhere"

    def start_elsewhere(job: Job, directory: str, mark: Path) -> Any:
        return start(replace(job, folder=elsewhere), directory, elsewhere / mark.name)

    def do_elsewhere(units: Sequence[Unit], job: Job) -> list[Outcome]:
        moved = [unit._replace(recording=unit.recording._replace(path="/mnt" + unit.recording.path)) for unit in units]
        return do(moved, job)

    def do_fully(units: Sequence[Unit], job: Job) -> list[Outcome]:
        raise OSError(28, "No space left on device")

    node = socket.gethostname()
    with monkeypatch.context() as patch:
        patch.setattr(cluster_module, "_start", start_elsewhere)
        with refused(FileNotFoundError, f"{node} does not see {elsewhere}, which must have this path on all nodes"):
            run(model, [recordings], tmp_path / "out", cluster=nodes.address)
    with monkeypatch.context() as patch:
        patch.setattr(cluster_module, "do", do_elsewhere)
        with refused(
            FileNotFoundError, f"{node} does not see {recordings}/...wav, which must have this path on all..."
        ):
            run(model, [recordings], tmp_path / "out", cluster=nodes.address)
    with monkeypatch.context() as patch:
        patch.setattr(cluster_module, "do", do_fully)
        with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device$"):
            run(model, [recordings], tmp_path / "out", cluster=nodes.address)

    def start_with_another(job: Job, directory: str, mark: Path) -> Any:
        return start(job, directory, mark)._replace(model="0")

    with monkeypatch.context() as patch:
        patch.setattr(cluster_module, "_start", start_with_another)
        with refused(ValueError, f"node {node} has another model at {model} than this machine"):
            run(model, [recordings], tmp_path / "out", cluster=nodes.address)
    run(model, [recordings], tmp_path / "out")
    assert whole(tmp_path / "out") == wanted


def test_wrong_addresses_are_refused(
    model: Path, tmp_path: Path, archive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings, _ = archive
    for cluster, reason in (("127.0.0.1:1", "Connection refused"), ("no.such.host.invalid:6379", "")):
        with refused(ConnectionError, f"cluster is '{cluster}', but nothing answers there: ...{reason}"):
            run(model, [recordings], tmp_path / "out", cluster=cluster)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    reason = "nothing answers there: [Errno 111] Connection refused"
    with refused(ConnectionError, f"cluster is 'auto' and RAY_ADDRESS '127.0.0.1:1', but {reason}"):
        run(model, [recordings], tmp_path / "out", cluster="auto")
    monkeypatch.setenv("RAY_ADDRESS", "ray://host:10001")
    needed = "auto, local, or the address of a cluster such as host:6379"
    client = "; ray:// is not supported: start the run on a machine of the cluster"
    with refused(ValueError, f"RAY_ADDRESS is 'ray://host:10001', but must be {needed}{client}"):
        run(model, [recordings], tmp_path / "out", cluster="auto")
    with refused(ValueError, f"cluster is 'somewhere', but must be {needed}"):
        batch(model, [recordings], tmp_path / "new", cluster="somewhere")
    monkeypatch.setitem(sys.modules, "ray", None)
    with refused(ImportError, "ray is needed to do the work on a cluster; install it with: pip install ray"):
        run(model, [recordings], tmp_path / "out", cluster="local")


@pytest.mark.alone
def test_ctrl_c_ends_ray_and_the_command(model: Path, tmp_path: Path, archive: Any) -> None:
    recordings, wanted = archive
    options = ["--model", model, "--window", 1, "--overlap", 0.25, "--confidence", 0.3, "--threshold", 0.1]
    command = ["batch", recordings, *options, "--jobs", 1, "--cluster", "local", "--output", tmp_path / "out"]
    code = """
import time
import l2i_fast.archive.cluster as cluster
import l2i_fast.archive.run as run
run._WINDOWS, run._TASK_WINDOWS = 3, 3
real = cluster.do
def slowly(units, job):
    time.sleep(1)
    return real(units, job)
cluster.do = slowly
from l2i_fast.cli import main
main()
"""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, *map(str, command)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out" / "sound").rglob("*.flac")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    *progress, last = err.splitlines()
    assert last == "l2i: interrupted; the same command goes on from there"
    assert all("of 9 recordings" in line for line in progress)
    assert 0 < len(contents(tmp_path / "out")) < len(wanted)
