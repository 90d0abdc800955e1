"""Operations by Triton kernels, one module each, on tensors of a GPU, or on the CPU in Triton's interpreter.

Operands are those of `l2i_fast.backends.torch`. The update of W is a few operations on small matrices: that of torch.
"""

import torch

from l2i_fast.arrays import Device
from l2i_fast.backends.torch import nmf_update_W

try:
    import triton

    from l2i_fast.backends.triton.launch_nmf import nmf_divergence, nmf_gather, nmf_pass, nmf_update_H
    from l2i_fast.backends.triton.launch_soft_mask import decode, decode_gradient, soft_mask, soft_mask_gradient
    from l2i_fast.backends.triton.launch_stft import SIZES, analyze, istft, istft_adjoint, log_mel, stft
    from l2i_fast.kernels.triton.nmf import MOST_COMPONENTS

    _missing = ""
except ImportError as error:
    _missing = f"Triton cannot be imported ({error})"

__all__ = [
    "analyze",
    "decode",
    "decode_gradient",
    "istft",
    "istft_adjoint",
    "log_mel",
    "nmf_divergence",
    "nmf_gather",
    "nmf_pass",
    "nmf_update_H",
    "nmf_update_W",
    "refuses",
    "soft_mask",
    "soft_mask_gradient",
    "stft",
]


def refuses(operation: str, device: Device, n_fft: int = 0, K: int = 0) -> str:
    """Say why Triton does not take a call, or return an empty string."""
    if _missing:
        return _missing
    if device is None:
        return "Triton takes tensors, not NumPy arrays"
    if device.type != "cuda" and not triton.knobs.runtime.interpret:
        return f"Triton runs on a GPU, not on {device}, unless TRITON_INTERPRET=1 is set before it is imported"
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return "Triton's kernels need a GPU of compute capability 8.0 or newer"
    if n_fft and n_fft not in SIZES:
        return f"Triton takes frames of {', '.join(map(str, SIZES))} samples, not of {n_fft}"
    if operation.startswith("nmf") and K > MOST_COMPONENTS:
        return f"Triton takes at most {MOST_COMPONENTS} components in a factorisation, not {K}"
    return ""
