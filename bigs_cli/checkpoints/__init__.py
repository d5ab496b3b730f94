"""Models on disk: published names and formats, run folders, Orbax."""
