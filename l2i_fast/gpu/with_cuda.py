"""The operations that CUDA C++ serves, through the library l2i_fast._cuda; see `backend` for shapes."""
