"""Results of interpretations: data, pictures, files."""
