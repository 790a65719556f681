"""Networks and their training. PyTorch is used in this package and nowhere else."""
