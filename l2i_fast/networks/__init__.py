"""The networks: the paper's classifier, and the interpreter that reads it."""
