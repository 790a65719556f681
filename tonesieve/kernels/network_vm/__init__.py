"""Compiled interpreter of trained networks."""
