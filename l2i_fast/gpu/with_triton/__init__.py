"""Operations by Triton kernels: functions named and shaped as those of `with_torch`, one module an operation."""
