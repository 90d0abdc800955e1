"""Non-negative matrix factorisation."""

from l2i_fast.nmf.dictionary import activations, beta_of, learn_dictionary, objective

__all__ = ["activations", "beta_of", "learn_dictionary", "objective"]
