"""One file per command: its options, its help and the call. Heavy modules are imported inside the functions."""
