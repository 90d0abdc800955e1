"""The operations on sound and spectra."""
