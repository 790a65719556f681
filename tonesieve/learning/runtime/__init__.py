"""Threads, processes and devices."""
