#!/usr/bin/env python3
"""MB/s of text events into a stream: bl-preprocess, against the same job in plain Python and (where installed) in pandas.

The job: parse every event, MeV to GeV, mass from energy, objects sorted by pt, event-level quantities (counts, HT, ST),
written as columns. The text is a sample repeated to the wanted size; each Python way does a part of it and is
extrapolated from its rate.

usage: bench_preprocess.py BIN_DIR SAMPLE.csv [MB of text, 100]
"""
import array
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KINDS = {"j": (1, 0, 0), "b": (1, 0, 1), "e-": (2, -1, 0), "e+": (2, 1, 0), "m-": (3, -1, 0), "m+": (3, 1, 0), "g": (4, 0, 0)}


def plain_python(path, out):
    """Every event in a loop, the columns in typed arrays: what a user writes without a library."""
    ids, weights, mets, met_phis = array.array("Q"), array.array("d"), array.array("f"), array.array("f")
    offsets = array.array("I", [0])
    kinds, charges, btags = array.array("B"), array.array("b"), array.array("f")
    pts, etas, phis, masses = (array.array("f") for _ in range(4))
    n_jets, n_bjets, n_leptons, hts, sts = (array.array("f") for _ in range(5))
    processes = []
    with open(path) as lines:
        for line in lines:
            fields = line.rstrip("\n").rstrip(";").split(";")
            objects = []
            for text in fields[5:]:
                name, e, pt, eta, phi = text.split(",")
                kind, charge, btag = KINDS[name]
                e, pt, eta, phi = float(e) * 1e-3, float(pt) * 1e-3, float(eta), float(phi)
                p = pt * math.cosh(eta)
                objects.append((pt, eta, phi, math.sqrt(max(0.0, (e - p) * (e + p))), kind, charge, btag))
            objects.sort(reverse=True)
            met = float(fields[3]) * 1e-3
            ids.append(int(fields[0]))
            processes.append(fields[1])
            weights.append(float(fields[2]))
            mets.append(met)
            met_phis.append(float(fields[4]))
            jets = bjets = leptons = 0
            ht = st = 0.0
            for pt, eta, phi, mass, kind, charge, btag in objects:
                pts.append(pt)
                etas.append(eta)
                phis.append(phi)
                masses.append(mass)
                kinds.append(kind)
                charges.append(charge)
                btags.append(btag)
                st += pt
                if kind == 1:
                    jets += 1
                    bjets += btag
                    ht += pt
                elif kind in (2, 3):
                    leptons += 1
            offsets.append(len(pts))
            n_jets.append(jets)
            n_bjets.append(bjets)
            n_leptons.append(leptons)
            hts.append(ht)
            sts.append(st + met)
    with open(out, "wb") as file:
        for column in (ids, weights, mets, met_phis, offsets, kinds, charges, btags, pts, etas, phis, masses, n_jets, n_bjets, n_leptons, hts, sts):
            column.tofile(file)
        file.write("\n".join(processes).encode())
    return len(ids)


def with_pandas(path, out):
    """Columns of text split by pandas, the arithmetic in numpy."""
    import numpy as np
    import pandas as pd

    width = max(line.count(";") for line in open(path)) + 1
    table = pd.read_csv(path, sep=";", header=None, names=range(width), engine="c", dtype={1: str}, low_memory=False)
    long = table.loc[:, 5:].stack()
    long = long[long.notna() & (long != "")]
    parts = long.str.split(",", expand=True)
    event = parts.index.get_level_values(0).to_numpy()
    numbers = parts.loc[:, 1:4].astype(float).to_numpy()
    e, pt, eta = numbers[:, 0] * 1e-3, numbers[:, 1] * 1e-3, numbers[:, 2]
    p = pt * np.cosh(eta)
    mass = np.sqrt(np.maximum(0, (e - p) * (e + p)))
    codes = np.array([KINDS[name] for name in parts[0]])
    order = np.lexsort((-pt, event))
    jets = codes[:, 0] == 1
    count = len(table)
    columns = {
        "event_id": table[0].to_numpy(), "weight": table[2].to_numpy(), "met": table[3].to_numpy() * 1e-3, "met_phi": table[4].to_numpy(),
        "offsets": np.concatenate([[0], np.cumsum(np.bincount(event, minlength=count))]),
        "pt": pt[order].astype("f4"), "eta": eta[order].astype("f4"), "phi": numbers[order, 3].astype("f4"), "mass": mass[order].astype("f4"),
        "kind": codes[order].astype("i1"),
        "n_jets": np.bincount(event, jets, minlength=count), "n_bjets": np.bincount(event, codes[:, 2], minlength=count),
        "n_leptons": np.bincount(event, (codes[:, 0] == 2) | (codes[:, 0] == 3), minlength=count),
        "ht": np.bincount(event, pt * jets, minlength=count), "st": np.bincount(event, pt, minlength=count) + table[3].to_numpy() * 1e-3,
    }
    with open(out, "wb") as file:
        np.savez(file, process=table[1].to_numpy(str), **columns)
    return count


def best_of(count, work):
    times = []
    for _ in range(count):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    program, sample = str(Path(sys.argv[1]) / "bl-preprocess"), Path(sys.argv[2])
    size = float(sys.argv[3]) * 1e6 if len(sys.argv) > 3 else 100e6
    if not sample.exists():
        sys.exit(f"bench_preprocess: '{sample}' is not there")
    text = sample.read_bytes()
    with tempfile.TemporaryDirectory(prefix="blbench") as folder:
        whole, part = Path(folder, "whole.csv"), Path(folder, "part.csv")
        with open(whole, "wb") as file:
            for _ in range(max(1, round(size / len(text)))):
                file.write(text)
        with open(part, "wb") as file:
            for _ in range(max(1, round(min(size / 10, 10e6) / len(text)))):
                file.write(text)
        mb, part_mb = whole.stat().st_size / 1e6, part.stat().st_size / 1e6
        events = text.count(b"\n") * round(mb * 1e6 / len(text))
        print(f"{events} events, {mb:.0f} MB of text; {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
        print(f"{'':32} {'MB/s':>8} {'events/s':>12} {'ratio':>8}")
        rates = []

        def row(name, seconds, amount):
            rate = amount / seconds
            rates.append((name, rate))
            return f"{name:32} {rate:8.1f} {rate / mb * events:12.0f}"

        lines = []
        raw = best_of(3, lambda: subprocess.run(["cat", str(whole)], stdout=subprocess.DEVNULL, check=True))
        lines.append(row("cat (what the disk cache gives)", raw, mb))
        for threads in sorted({1, 2, min(4, os.cpu_count() or 1)}):
            out = Path(folder, f"out{threads}.bl")
            seconds = best_of(3, lambda: subprocess.run([program, "--in", str(whole), "--out", str(out), "--threads", str(threads), "--force"], check=True))
            lines.append(row(f"bl-preprocess --threads {threads}", seconds, mb))
        lines.append(row("plain Python", best_of(1, lambda: plain_python(part, Path(folder, "plain.bin"))), part_mb))
        try:
            import pandas  # noqa: F401
            lines.append(row("pandas", best_of(1, lambda: with_pandas(part, Path(folder, "pandas.npz"))), part_mb))
        except ImportError:
            lines.append(f"{'pandas':32} not installed")
        ours = next(rate for name, rate in rates if name == "bl-preprocess --threads 1")
        for line in lines:
            rate = next((r for name, r in rates if line.startswith(f"{name:32}")), None)
            print(line + (f" {ours / rate:8.2f}" if rate else ""))
        print("ratio: bl-preprocess with one thread over the row")


if __name__ == "__main__":
    main()
