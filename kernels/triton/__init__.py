"""Triton kernels, one file per operation, which take pointers, sizes and strides.

`l2i_fast.backends.triton` launches them; functions that all of them share are in `arithmetic`. They compile for CUDA
GPUs from sm_80 on; with TRITON_INTERPRET=1, set before Triton is imported, the same source runs on the CPU, far more
slowly.
"""
