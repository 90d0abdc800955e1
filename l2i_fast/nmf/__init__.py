"""Non-negative matrix factorisation."""

from l2i_fast.nmf.dictionary import activations, learn_dictionary, learn_dictionary_online
from l2i_fast.nmf.factorize import Factorization, beta_of, factorize

__all__ = ["Factorization", "activations", "beta_of", "factorize", "learn_dictionary", "learn_dictionary_online"]
