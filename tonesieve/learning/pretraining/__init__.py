"""Training of the pretrained extractor's gating network."""
