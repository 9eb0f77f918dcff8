"""Writes ops_graph.golden: nearest neighbours by sorting all distances, and edge convolutions edge by edge.

    python3 tests/golden/ops_graph.py tests/golden/ops_graph.golden        # needs torch 2.15; tests do not

Arrays beside the cases: <graph>/coordinates, <graph>/neighbours, <graph>/degrees (neighbours of each token).
"""
import math
import sys

import torch
import torch.nn.functional as F

import golden

OFFSETS = torch.tensor([0, 9, 9, 10, 13, 30])  # empty, lonely, and fewer than K neighbours
K = 4


def neighbours(coordinates, delta_r):
    found, degrees = [], []
    for first, last in zip(OFFSETS[:-1].tolist(), OFFSETS[1:].tolist()):
        points = coordinates[first:last].float().double()
        delta = points[:, None] - points[None]
        if delta_r:
            delta[..., 1] = torch.remainder(delta[..., 1] + math.pi, 2 * math.pi) - math.pi
        distance = delta.square().sum(-1)
        distance.fill_diagonal_(float("inf"))
        for row in distance.argsort(dim=1, stable=True)[:, :K]:
            kept = row[:last - first - 1]
            found += (kept + first).tolist()
            degrees.append(len(kept))
    return torch.tensor(found), torch.tensor(degrees)


def features(x, found, degrees):
    centre = x.repeat_interleave(degrees, 0)
    return torch.cat([centre, x[found] - centre], 1)


def aggregate(edges, degrees, function):
    return torch.stack([function(part) if len(part) else edges.new_zeros(edges.shape[1]) for part in edges.split(degrees.tolist())])


def main():
    cases = golden.Cases(33)
    tokens = int(OFFSETS[-1])
    eta_phi = torch.stack([cases.normal(tokens), (torch.rand(tokens, generator=cases.generator) * 2 - 1) * 3.14159], 1)
    graphs = {"delta_r": (eta_phi, True), "feature_space": (cases.normal(tokens, 5), False)}
    cases.arrays["sequences"] = OFFSETS
    for name, (coordinates, delta_r) in graphs.items():
        found, degrees = neighbours(coordinates, delta_r)
        cases.arrays |= {f"{name}/coordinates": coordinates, f"{name}/neighbours": found, f"{name}/degrees": degrees}
    found, degrees = neighbours(*graphs["delta_r"])
    x, w, b = cases.normal(tokens, 7), cases.normal(10, 14, scale=0.3), cases.normal(1, 10)
    w2, b2 = cases.normal(6, 10, scale=0.4), cases.normal(1, 6)
    cases.add("features", lambda x: features(x, found, degrees), [x])
    cases.add("linear_silu", lambda x, w, b: F.silu(F.linear(features(x, found, degrees), w, b[0])), [x, w, b])
    cases.add("conv_mean", lambda x, w, b: aggregate(F.gelu(F.linear(features(x, found, degrees), w, b[0]), approximate="tanh"), degrees, lambda e: e.mean(0)),
              [x, w, b])
    cases.add("conv_max", lambda x, w, b: aggregate(F.relu(F.linear(features(x, found, degrees), w, b[0])), degrees, lambda e: e.max(0).values), [x, w, b])

    def two_layers(x, w, b, w2, b2):
        edges = F.relu(F.linear(F.relu(F.linear(features(x, found, degrees), w, b[0])), w2, b2[0]))
        return aggregate(edges, degrees, lambda e: e.mean(0))
    cases.add("conv_two_layers", two_layers, [x, w, b, w2, b2])
    cases.write(sys.argv[1])


if __name__ == "__main__":
    main()
