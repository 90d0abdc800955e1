"""The operations on tensors of a GPU: `backend` says what serves them, `operations` are what users call."""
