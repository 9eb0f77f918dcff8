"""Writes ops_fourier.golden: Fourier features of any directions, of each axis, and sinusoidal positions.

    python3 tests/golden/ops_fourier.py tests/golden/ops_fourier.golden        # needs torch 2.15; tests do not
"""
import math
import sys

import torch

import golden


def features(x, b):
    phase = 2 * math.pi * x @ b.T
    return torch.cat([phase.sin(), phase.cos()], 1)


def axes(x):
    """Four frequencies for each column: 0.5, 1, 2 and 4 turns per unit."""
    phase = 2 * math.pi * (x[:, :, None] * torch.tensor([0.5, 1.0, 2.0, 4.0])).flatten(1)
    return torch.cat([phase.sin(), phase.cos()], 1)


def positions(p):
    phase = p / 10000 ** (torch.arange(0, 12, 2, dtype=p.dtype) / 12)
    return torch.cat([phase.sin(), phase.cos()], 1)


def main():
    cases = golden.Cases(44)
    cases.add("directions", features, [cases.normal(7, 3), cases.normal(9, 3)])
    cases.add("axes", axes, [cases.normal(5, 2)])
    cases.add("positions", positions, [torch.arange(20.0)[:, None]])
    cases.write(sys.argv[1])


if __name__ == "__main__":
    main()
