"""Compiled kernels of the pretrained extractor's bank of Kalman filters."""
