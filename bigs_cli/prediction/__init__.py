"""Prediction and embeddings for texts, shared by `bigs predict` and the Python API."""
