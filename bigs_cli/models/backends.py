"""What is done differently on CPU, GPU and TPU, in one table, with the measurements behind it.

The measurements are from two cores of an AMD EPYC (Zen 4) with JAX 0.10. GPUs and TPUs were not measured: there, the
choices follow from how their compilers work.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax


@dataclass(frozen=True)
class Backend:
    """The choices for one backend.

    `longest_dense`: the longest rows, in tokens, for which `mixing: auto` is `dense`. Nanoseconds per token and channel
    for a forward pass and its gradient, `bigs bench mixing --tokens 16384`, H = 256, N = 64, on CPU:

        L         128    256    512   1,024   2,048
        dense     5.9   11.0   19.1    49.1    76.8   float32
        chunked  17.8   26.8   24.6    23.9    28.1
        fft      22.9   20.8   22.9    35.7    23.7
        dense     5.6    7.5   11.6    38.3    54.1   bfloat16
        chunked  12.4   24.2   26.0    24.4    20.7
        fft      28.3   24.2   24.1    36.0    24.1

    The FFT is competitive here but not in a training step: with 2 × 1,024 tokens, 4 layers and bfloat16, a step took
    0.55 s with the FFT, 0.58 s dense and 0.29 s chunked. On accelerators, products are cheaper relative to the memory
    traffic of chunked mixing.

    `scans_layers`: whether layers with stacked parameters run in a scan, whose compile time does not grow with depth.
    On CPU, the copies of the weights that a scan makes take as long as a forward pass.

    `merges_rows`: whether the rows of a batch on one device are merged with other axes before products. On CPU a tenth
    faster; elsewhere there is no difference.

    `row_major_bfloat16`: whether operands of bfloat16 products must be row-major and their results float32. XLA's CPU
    backend otherwise converts both to float32, at half the speed; and if it assigns other layouts after that choice,
    execution fails. On several CPU devices, products are float32 instead.
    """

    longest_dense: int
    scans_layers: bool
    merges_rows: bool
    row_major_bfloat16: bool


CPU = Backend(longest_dense=512, scans_layers=False, merges_rows=True, row_major_bfloat16=True)
ACCELERATOR = Backend(longest_dense=1024, scans_layers=True, merges_rows=False, row_major_bfloat16=False)
BACKENDS = {"cpu": CPU, "gpu": ACCELERATOR, "tpu": ACCELERATOR}


def backend() -> Backend:
    """Return the choices for the backend of this process."""
    return BACKENDS.get(jax.default_backend(), ACCELERATOR)
