"""Writes ops_linear.golden: linear layers with activations, and gated linear units.

    python3 tests/golden/ops_linear.py tests/golden/ops_linear.golden        # needs torch 2.15; tests do not
"""
import sys

import torch
import torch.nn.functional as F

import golden

ACTIVATIONS = {
    "none": lambda x: x,
    "relu": F.relu,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
}


def gated(act):
    def apply(x, w, b):
        value, gate = F.linear(x, w, b[0]).chunk(2, -1)
        return value * act(gate)
    return apply


def main():
    cases = golden.Cases(41)
    x, w, b = cases.normal(6, 7), cases.normal(11, 7), cases.normal(1, 11)
    for name, act in ACTIVATIONS.items():
        cases.add(name, lambda x, w, b: act(F.linear(x, w, b[0])), [x, w, b])
    cases.add("residual", lambda x, w, b, r: F.linear(x, w, b[0]) + r, [x, w, b, cases.normal(6, 11)])
    v, c = cases.normal(22, 7), cases.normal(1, 22)
    for name in ("none", "relu", "gelu", "silu", "sigmoid"):
        cases.add("gated_" + name, gated(ACTIVATIONS[name]), [x, v, c])
    cases.write(sys.argv[1])


if __name__ == "__main__":
    main()
