"""Non-negative matrix factorisation: estimator, dictionaries, activations."""
