"""Evaluation of models on tasks, held-out text and minimal pairs; statistics and comparison of runs."""
