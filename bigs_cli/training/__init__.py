"""Optimizer, training step and training loop; pretraining and fine-tuning, which use them."""
