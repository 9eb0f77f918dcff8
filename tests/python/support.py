"""What the tests share: where things are, and batches to write."""
import os
import unittest
from pathlib import Path

import numpy as np

import beamline

SOURCE = Path(os.environ["BEAMLINE_SOURCE"])
BIN = Path(os.environ.get("BEAMLINE_BIN", SOURCE / "build" / "bin"))


def program(name):
    """Path of one of the project's programs; skips the test when it has not been built."""
    path = BIN / name
    if not path.exists():
        raise unittest.SkipTest(f"{path} has not been built")
    return str(path)


def objects(events, seed=1, first=0):
    """Columns of objects/1: random events, the first of them without any object."""
    rng = np.random.default_rng([seed, first])
    counts = rng.integers(0, 9, events)
    if events:
        counts[0] = 0
    n = int(counts.sum())
    return {
        "event_index": np.arange(first, first + events, dtype=np.uint64),
        "event_id": rng.integers(0, 2**63, events, dtype=np.uint64),
        "weight": rng.normal(size=events),
        **beamline.text_column("process", [("tt", "ttH", "")[i % 3] for i in range(events)]),
        "label": rng.integers(-1, 2, events, dtype=np.int32),
        "met": rng.exponential(50, events).astype(np.float32),
        "met_phi": rng.uniform(-3.14, 3.14, events).astype(np.float32),
        "object_offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32),
        "type": rng.integers(1, 4, n, dtype=np.uint8),
        "charge": rng.integers(-1, 2, n, dtype=np.int8),
        "pt": rng.exponential(50, n).astype(np.float32),
        "eta": rng.uniform(-2.5, 2.5, n).astype(np.float32),
        "phi": rng.uniform(-3.14, 3.14, n).astype(np.float32),
        "mass": rng.exponential(5, n).astype(np.float32),
        "btag": rng.integers(0, 2, n).astype(np.float32),
    }
