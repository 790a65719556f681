"""Records become batches."""
