"""The benchmarks of `bigs bench`, and the checks of `bigs doctor`."""
