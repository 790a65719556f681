"""Sweeps: many runs from one plan, their storage, executors, search and results."""
