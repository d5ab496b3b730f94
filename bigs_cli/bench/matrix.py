"""Measures the peak rate of matrix multiplication in a separate process, as the reference for MFU."""

from __future__ import annotations

import sys

from bigs_cli.training.peak_flops import measure_peak_flops

if __name__ == "__main__":
    print(measure_peak_flops(sys.argv[1], seconds=1.0))
