"""A trained network without PyTorch."""
