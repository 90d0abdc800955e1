"""Archives: recordings of any number and length, explained window by window, interrupted and resumed."""
