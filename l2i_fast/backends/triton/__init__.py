"""Operations by Triton kernels: functions named and shaped as those of `with_torch`, one module an operation."""

from l2i_fast.backends.triton.nmf import nmf_divergence, nmf_gather, nmf_update_H
from l2i_fast.backends.triton.soft_mask import decode, decode_gradient, soft_mask, soft_mask_gradient
from l2i_fast.backends.triton.stft import analyze, istft, istft_adjoint, log_mel, stft

__all__ = [
    "analyze",
    "decode",
    "decode_gradient",
    "istft",
    "istft_adjoint",
    "log_mel",
    "nmf_divergence",
    "nmf_gather",
    "nmf_update_H",
    "soft_mask",
    "soft_mask_gradient",
    "stft",
]
