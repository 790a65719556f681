"""How good an extractor is."""
