#!/usr/bin/env python3
"""Writes token_quality.json: constituents before and after, and what numpy says of their differences.

numpy 1.24; python3 tests/evaluate/token_quality.py > tests/evaluate/token_quality.json
"""
import json

import numpy as np

rng = np.random.default_rng(20240305)
lengths = rng.integers(3, 12, 40)
offsets = np.concatenate([[0], np.cumsum(lengths)])
n = int(offsets[-1])
pt = np.exp(rng.uniform(-0.5, 5, n)).astype(np.float32)
eta = rng.normal(0, 0.2, n).astype(np.float32)
phi = rng.normal(0, 0.2, n).astype(np.float32)
after_pt = (pt * np.exp(rng.normal(0.02, 0.1, n))).astype(np.float32)
after_eta = (eta + rng.normal(0, 0.02, n)).astype(np.float32)
after_phi = (phi + rng.normal(0.005, 0.02, n)).astype(np.float32)


def spread(values):
    q = np.quantile(values, [0.01, 0.16, 0.5, 0.84, 0.99])
    return [float(x) for x in (np.mean(values), np.std(values), np.mean(np.abs(values)), *q)]


def jets(pt, eta, phi):
    """pT and mass of the sums of massless constituents."""
    pt, eta, phi = (np.asarray(v, dtype=np.float64) for v in (pt, eta, phi))
    parts = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)])
    px, py, pz, e = np.add.reduceat(parts, offsets[:-1], axis=1)
    return np.hypot(px, py), np.sqrt(np.maximum(e**2 - px**2 - py**2 - pz**2, 0))


difference = lambda a, b: a.astype(np.float64) - b.astype(np.float64)
before, after = jets(pt, eta, phi), jets(after_pt, after_eta, after_phi)
print(json.dumps({
    "offsets": offsets.tolist(),
    "pt": pt.tolist(), "eta": eta.tolist(), "phi": phi.tolist(),
    "after_pt": after_pt.tolist(), "after_eta": after_eta.tolist(), "after_phi": after_phi.tolist(),
    "spread": {
        "pt_relative": spread(difference(after_pt, pt) / pt.astype(np.float64)),
        "pt": spread(difference(after_pt, pt)),
        "eta": spread(difference(after_eta, eta)),
        "phi": spread(difference(after_phi, phi)),
        "jet_pt": spread(after[0] - before[0]),
        "jet_mass": spread(after[1] - before[1]),
    },
}))
