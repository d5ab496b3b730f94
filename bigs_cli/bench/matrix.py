"""How fast this machine multiplies matrices, measured in a process of its own: what all else is a share of."""

from __future__ import annotations

import sys

from bigs_cli.training.peak_flops import measure_peak_flops

if __name__ == "__main__":
    print(measure_peak_flops(sys.argv[1], seconds=1.0))
