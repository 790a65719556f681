"""The pretrained extractor: a bank of Kalman filters weighted by a gating network."""
