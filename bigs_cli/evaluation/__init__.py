"""Metrics, and the evaluation of a model on held-out text or a task."""
