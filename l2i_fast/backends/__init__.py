"""What computes: native, CUDA C++, Triton and torch, and the choice between them."""
