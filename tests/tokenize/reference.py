#!/usr/bin/env python3
"""Writes reference.json: quantile edges by numpy and inertias by scikit-learn, on points that the C++ tests read back.

    python3 -m venv venv && venv/bin/pip install numpy scikit-learn && venv/bin/python reference.py > reference.json
"""
import json
import sys

import numpy as np
import sklearn
from sklearn.cluster import KMeans

rng = np.random.default_rng(11)
values = np.float32(np.round(rng.exponential(60, 203) + 20, 3))
wide = values.astype(np.float64)
quantile = {"values": [float(v) for v in values]}
for bins in (1, 4, 5, 7):
    edges = np.quantile(wide, np.arange(bins + 1) / bins)
    which = np.digitize(wide, edges[1:-1])
    quantile[str(bins)] = {"edges": edges.tolist(), "medians": [float(np.median(wide[which == i])) for i in range(bins)], "bins": which.tolist()}

centres = rng.normal(size=(6, 3)) * 4
points = np.float32(np.round(np.concatenate([c + rng.normal(size=(60, 3)) * s for c, s in zip(centres, (0.3, 0.5, 0.8, 1, 1.2, 1.5))]), 4))
weights = np.float32(np.round(rng.uniform(0.2, 3, len(points)), 3))
inertia = {}
for codes in (1, 4, 6, 20):
    plain = KMeans(codes, n_init=50, random_state=0, tol=1e-8, max_iter=1000).fit(points.astype(np.float64))
    weighted = KMeans(codes, n_init=50, random_state=0, tol=1e-8, max_iter=1000).fit(points.astype(np.float64), sample_weight=weights.astype(np.float64))
    inertia[str(codes)] = {"plain": float(plain.inertia_), "weighted": float(weighted.inertia_)}

json.dump({"made_with": {"numpy": np.__version__, "scikit-learn": sklearn.__version__}, "quantile": quantile,
           "kmeans": {"points": np.round(points.astype(np.float64), 4).ravel().tolist(), "dims": 3, "weights": np.round(weights.astype(np.float64), 3).tolist(), "best_inertia": inertia}}, sys.stdout)
print()
