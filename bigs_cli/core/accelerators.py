"""What common accelerators can do, to plan runs on machines that are not at hand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Accelerator:
    """One device: its peak in bfloat16 without sparsity, in FLOP/s, and what it can send, in bytes/s.

    `link` connects the devices of one machine, or all of a pod (`per_machine` None); `network` those of different
    machines of `per_machine` devices.
    """

    peak: float
    link: float
    per_machine: int | None = None
    network: float = 0.0

    def sends(self, devices: int) -> float:
        """Return the bytes/s that each of several devices sends: at the speed of the slowest connection."""
        return self.link if self.per_machine is None or devices <= self.per_machine else self.network


ACCELERATORS = {
    "A100": Accelerator(312e12, 300e9, 8, 25e9),
    "H100": Accelerator(989e12, 450e9, 8, 50e9),
    "TPU v5e": Accelerator(197e12, 200e9),
    "TPU v5p": Accelerator(459e12, 600e9),
}
"""Peaks and links: the data sheets of NVIDIA (NVLink in one direction) and Google Cloud (all links of a chip).

Networks: InfiniBand with 200 (A100) and 400 Gbit/s (H100) for each device, as in NVIDIA's DGX machines.
"""
MFU = 0.4
"""The fraction of the peak that plans assume unless another is given. Chosen by this project."""
