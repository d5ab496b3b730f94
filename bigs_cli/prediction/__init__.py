"""Using a model: texts in, what its head says of them out, from the command line and from Python alike."""
