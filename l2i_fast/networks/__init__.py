"""The networks: the paper's classifier, and the interpreter that reads it."""

import os
from functools import partial

import torch

# A forked child lacks the threads of OpenMP that its parent has started, and would wait for them for good.
os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
