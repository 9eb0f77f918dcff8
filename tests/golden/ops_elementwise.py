"""Writes ops_elementwise.golden: activations, gates, layer scale, FiLM, and what a given dropping makes of rows.

    python3 tests/golden/ops_elementwise.py tests/golden/ops_elementwise.golden        # needs torch 2.15; tests do not
"""
import sys

import torch
import torch.nn.functional as F

import golden

OFFSETS = torch.tensor([0, 4, 4, 5, 11])


def main():
    cases = golden.Cases(32)
    # also far out, where exponentials over- or underflow
    wide = torch.cat([cases.normal(6, 9), torch.tensor([[-200.0, -90, -30, -1e-4, 0.5, 1e-4, 30, 90, 200]])])
    cases.add("relu", F.relu, [wide])
    cases.add("gelu", lambda x: F.gelu(x, approximate="tanh"), [wide])
    cases.add("silu", F.silu, [wide])
    cases.add("sigmoid", torch.sigmoid, [wide])
    cases.add("tanh", torch.tanh, [wide])
    cases.add("softplus", lambda x: torch.logaddexp(x, torch.zeros_like(x)), [wide])
    x, g = cases.normal(11, 9), cases.normal(11, 9)
    cases.add("add", lambda x, y: x + y, [x, g])
    cases.add("gate", lambda x, g: x * g, [x, g])
    cases.add("gate_sigmoid", lambda x, g: x * torch.sigmoid(g), [x, g])
    cases.add("gate_silu", lambda x, g: x * F.silu(g), [x, g])
    cases.add("layer_scale", lambda x, gamma: x * gamma, [x, cases.normal(1, 9)])
    cases.add("film_token", lambda x, scale, shift: x * (1 + scale) + shift, [x, g, cases.normal(11, 9)])
    cases.add("film_sequence", lambda x, scale, shift, offsets: x * (1 + scale.repeat_interleave(offsets.diff(), 0)) + shift.repeat_interleave(offsets.diff(), 0),
              [x, cases.normal(4, 9), cases.normal(4, 9)], offsets=OFFSETS)
    cases.write(sys.argv[1])


if __name__ == "__main__":
    main()
