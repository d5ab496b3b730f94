"""Models on disk: published file formats, run folders, and Orbax checkpoints."""
