"""Compile the kernels exactly as `l2i_fast.backends.triton` launches them, without a GPU.

An interpreter takes any argument, and `ahead` the types given to it; here Triton itself inspects the arguments, as on a
GPU. Tensors stay on the CPU and nothing is computed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any


def compiled() -> list[list[str]]:
    """The kernels that Triton compiled for clips of each size, one size after the other."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    result = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])  # type: ignore[no-any-return]


class _Hopper:
    """Stands in for the driver of a GPU of compute capability 9.0."""

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_benchmarker(self) -> Any:
        def once(call: Any, quantiles: Any) -> list[float]:
            call()
            return [1.0, 1.0, 1.0]

        return once


def _launch(n_clips: int, n_samples: int, n_updates: int) -> None:
    import numpy as np
    import torch

    from l2i_fast.backends import triton as with_triton

    rand = torch.rand
    window, bands, clips = rand(256), rand(129, 20), rand(n_clips, n_samples)
    X, V, _ = with_triton.analyze(clips, window, 100, 128, bands, np.float32(1e-6))
    with_triton.log_mel(X, bands, 1)
    n_frames = X.shape[1]
    for hop in (100, 50):
        with_triton.istft(X, window, hop, 128, n_samples)
    mask = X, rand(129, 5), rand(n_clips, n_frames, 5), rand(n_clips, 5), "log", 1e-6
    with_triton.soft_mask(*mask)
    with_triton.soft_mask_gradient(*mask, X)
    W, H = rand(129, 5), rand(n_clips * n_frames, 5)
    lengths = torch.ones(n_clips, dtype=torch.int32)
    n = np.int64(n_updates)
    for beta in (1, 2):
        with_triton.nmf_update_H(V, None, W, H.view(n_clips, n_frames, 5), beta, np.float32(0.1), 0, n, lengths)
        with_triton.nmf_gather(V.view(-1, 129), None, W, H, beta)
        with_triton.nmf_divergence(V.view(-1, 129), None, W, H, beta)


def _main() -> None:
    from triton.runtime import JITFunction, driver

    names: list[str] = []
    run, compile_one = JITFunction.run, JITFunction._do_compile

    def compile_only(self: Any, *arguments: Any, grid: Any, warmup: bool, **constants: Any) -> Any:
        shape = grid({**dict(zip(self.arg_names, arguments, strict=False)), **constants}) if callable(grid) else grid
        assert all(type(n) is int and 0 < n < 65536 for n in shape[1:]), shape
        return run(self, *arguments, grid=grid, warmup=True, **constants)

    def noted(self: Any, *arguments: Any, **settings: Any) -> Any:
        names.append(self.__name__)
        return compile_one(self, *arguments, **settings)

    JITFunction.run, JITFunction._do_compile = compile_only, noted
    driver.set_active(_Hopper())
    answer = []
    for size in ((3, 2070, 3), (4, 2160, 16), (1, 1, 1)):
        names.clear()
        _launch(*size)
        answer.append(sorted(names))
    print(json.dumps(answer))


if __name__ == "__main__":
    _main()
