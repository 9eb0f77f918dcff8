"""Writes ops_norm.golden: layer norm and RMS norm.

    python3 tests/golden/ops_norm.py tests/golden/ops_norm.golden        # needs torch 2.15; tests do not
"""
import sys

import torch.nn.functional as F

import golden


def main():
    cases = golden.Cases(42)
    for width in (5, 24):
        x, w, b = cases.normal(6, width, scale=2.0) + 0.5, cases.normal(1, width), cases.normal(1, width)
        cases.add(f"layer{width}", lambda x, w, b: F.layer_norm(x, x.shape[1:], w[0], b[0], 1e-5), [x, w, b])
        cases.add(f"rms{width}", lambda x, w: F.rms_norm(x, x.shape[1:], w[0], 1e-5), [x, w])
    cases.write(sys.argv[1])


if __name__ == "__main__":
    main()
