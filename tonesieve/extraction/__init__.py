"""A recording in, the tone out."""
