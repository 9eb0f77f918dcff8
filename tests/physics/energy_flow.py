"""Writes energy_flow.json, the values that energy_flow.cpp compares with, by the energyflow package.

Run it in an environment with numpy and energyflow (pip install energyflow); the tests need only the file.
"""
import json
import pathlib
import re

import energyflow
import numpy as np

source = (pathlib.Path(__file__).parents[2] / "common/physics/energy_flow.cpp").read_text()
graphs = re.findall(r'^    "(.*)",$', source, re.M)
measure = {"measure": "hadr", "beta": 1, "normed": None, "coords": "ptyphim"}


def value(graph, jet):
    if graph == "a":
        return jet[:, 0].sum()
    edges = [[tuple(ord(v) - ord("a") for v in edge) for edge in part.split()] for part in graph.split(" * ")]
    return np.prod([energyflow.EFP(part, **measure).compute(jet) for part in edges])


rng = np.random.default_rng(3)
jets = []
for n in (0, 1, 2, 3, 12, 40):
    jet = np.stack([np.round(rng.exponential(20, n), 3), np.round(rng.normal(1, 0.3, n), 4), np.round(rng.normal(3.1, 0.3, n), 4)], 1)
    jet[:, 2] = np.round(np.where(jet[:, 2] > np.pi, jet[:, 2] - 2 * np.pi, jet[:, 2]), 4)  # across the seam
    efps = [float(value(g, jet)) if n else 0.0 for g in graphs]
    if n:  # the same set as the package's own
        np.testing.assert_allclose(np.sort(efps), np.sort(energyflow.EFPSet("d<=4", **measure).compute(jet)), rtol=1e-9)
    jets.append({"pt": jet[:, 0].tolist(), "y": jet[:, 1].tolist(), "phi": jet[:, 2].tolist(), "efp": efps})
pathlib.Path(__file__).with_name("energy_flow.json").write_text(
    json.dumps({"made with": {"energyflow": energyflow.__version__}, "graphs": graphs, "jets": jets}, separators=(",", ":")) + "\n")
