"""On a machine with a GPU: build without a network, test, check for memory errors and races, measure, keep the results.

    python benchmarks/gpu.py                     # about 8 minutes; --help lists the options

Needs nvcc, CMake, ninja, pybind11, scikit-build-core, torch with CUDA, Triton and pytest; tests that need librosa,
soundfile or soxr are left out if these are missing. Installs this checkout into the Python that runs it. Results go to
benchmarks/results/, named after the device, with the outcome of every step.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHON = [sys.executable, "-P"]  # the installed package, not the source folder
#: Tests of what runs on a GPU.
ON_A_GPU = (
    "tests/archive/test_on_a_device.py",
    "tests/backends/cuda",
    "tests/backends/triton",
    "tests/backends/test_dispatch.py",
    "tests/backends/test_on_a_gpu.py",
    "tests/bench/test_gpu.py",
    "tests/model/test_on_a_device.py",
    "tests/nmf/test_on_tensors.py",
    "tests/ops/test_on_tensors.py",
    "tests/stream/test_device.py",
)
#: Tests of kernels that the sanitizers watch.
KERNELS = "tests/backends/cuda/test_kernels.py", "tests/stream/test_device.py"
#: Limits of the steps in seconds, 8 minutes in all. A step that is stopped keeps its results so far.
STEPS = {"build": 90, "gpu tests": 90, "other tests": 120, "memcheck": 45, "racecheck": 45, "benchmarks": 90}


def commands(work: Path, fast: bool) -> dict[str, list[str]]:
    """Return the command of each step, except for steps whose tool is missing."""
    install = ["-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index", str(ROOT)]
    define = "cmake.define.CMAKE_CUDA_ARCHITECTURES=native", "cmake.define.L2I_CUDA=ON"
    # Many processes side by side: each takes one thread of the CPU.
    pytest = ["env", "OMP_NUM_THREADS=1", *PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    # Compilation ahead of time and emulation on the CPU need no GPU, and are tested elsewhere.
    on_gpu = [*pytest, *ON_A_GPU, "-k", "not ahead and not emulat", "--durations=5", *_parallel()]
    kernels = [*pytest, *KERNELS, "-k", "on_a_gpu"]
    found = {
        "build": [sys.executable, *install, *(word for name in define for word in ("-C", name))],
        "gpu tests": on_gpu,
        "other tests": [*pytest, "tests", *(f"--ignore={path}" for path in ON_A_GPU), *_parallel()],
    }
    if sanitizer := shutil.which("compute-sanitizer"):
        # Each tensor in memory of its own, so that writing beyond its end does not land in torch's pool.
        uncached = "PYTORCH_NO_CUDA_MEMORY_CACHING=1"
        for tool in ("memcheck", "racecheck"):
            found[tool] = [
                "env",
                uncached,
                sanitizer,
                "--tool",
                tool,
                "--error-exitcode",
                "9",
                "--target-processes",
                "all",
                *kernels,
            ]
    bench = [*PYTHON, "-m", "l2i_fast.cli", "bench", "--device", "cuda", "--output", str(work), "--seconds", "0.5"]
    found["benchmarks"] = [*bench, "--no-peers"] if fast else bench
    return found


def main() -> int:
    """Run the steps, and return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the results")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS), help="run these steps only")
    parser.add_argument("--fast", action="store_true", help="do not time torch.compile")
    chosen = parser.parse_args()
    work = chosen.output / "run"
    work.mkdir(parents=True, exist_ok=True)
    outcomes: dict[str, str] = {}
    for name, command in commands(work, chosen.fast).items():
        if name not in chosen.only:
            continue
        print(f"== {name}", flush=True)
        start = time.perf_counter()
        outcome, tail = _run(command, STEPS[name], work / f"{name.replace(' ', '-')}.log")
        outcomes[name] = f"{outcome}, {time.perf_counter() - start:.0f} s; {tail}"
        print(outcomes[name], flush=True)
    for name in chosen.only:
        outcomes.setdefault(name, "left out: its tool is missing")
    _keep(chosen.output, work, outcomes)
    print("\n".join(f"{name:12} {outcome}" for name, outcome in outcomes.items()))
    return sum(not outcome.startswith(("ok", "left out")) for outcome in outcomes.values())


def _run(command: list[str], seconds: int, log: Path) -> tuple[str, str]:
    # The outcome and the last line of the output, which is in the log.
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"CI": ""},
            start_new_session=True,
        )
        late = False
        for patience, sign in ((seconds, signal.SIGINT), (10, signal.SIGKILL)):
            try:
                process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                late = True
                os.killpg(process.pid, sign)
        code = process.wait()
    words = log.read_text(errors="replace").strip().splitlines()
    outcome = f"stopped after {seconds} s" if late else "ok" if code == 0 else f"failed with {code}"
    return outcome, words[-1] if words else ""


def _parallel() -> list[str]:
    try:
        import xdist  # noqa: F401
    except ModuleNotFoundError:
        return []
    return ["-n", str(min(16, os.cpu_count() or 1))]


def _keep(output: Path, work: Path, outcomes: dict[str, str]) -> None:
    # The measurements, named after the device, with the outcome of the steps.
    measured = work / "gpu.json"
    found = json.loads(measured.read_text()) if measured.exists() else {"machine": {"GPU": "unknown"}}
    found["steps"] = outcomes
    name = re.sub(r"[^a-z0-9]+", "-", found["machine"]["GPU"].lower()).strip("-")
    (output / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    measured.unlink(missing_ok=True)  # otherwise a later run that measures nothing would keep it again
    if (picture := work / "gpu.png").exists():
        picture.replace(output / f"{name}.png")


if __name__ == "__main__":
    raise SystemExit(main())
