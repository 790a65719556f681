"""Classical filters as extractors."""
