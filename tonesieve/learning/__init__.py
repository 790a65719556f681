"""How networks come about. PyTorch lives here and nowhere else."""
