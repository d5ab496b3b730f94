"""Benchmarks: what bigs does on this machine, in figures that can be compared."""
