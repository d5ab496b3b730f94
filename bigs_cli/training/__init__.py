"""Mesh, optimizer, step and loop; pretraining and fine-tuning wire them."""
