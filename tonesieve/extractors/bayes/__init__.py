"""Bayes-optimal extractors and their expected error, the limit."""
