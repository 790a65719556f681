"""Trained networks as ONNX graphs, written node by node from their weights; needs no torch."""
