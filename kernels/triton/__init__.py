"""Triton kernels, one file an operation: pointers, sizes and strides in; `l2i_fast.gpu` launches them.

What all of them share is in `l2i_fast.kernels.triton.arithmetic`. They compile for CUDA GPUs from sm_80 on; with
TRITON_INTERPRET=1, set before Triton is imported, the same source runs on the CPU, far more slowly.
"""
