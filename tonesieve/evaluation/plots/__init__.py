"""Plots of runs and sweeps; they compute nothing."""
