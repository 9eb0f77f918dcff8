#!/usr/bin/env python3
"""The rows of bench_jets with the PyPI package fastjet (FastJet and fjcontrib compiled, behind awkward arrays), one thread.

usage: fastjet_peer.py [STREAM]     with the interpreter of `make -f Makefile.workflow venv`
"""
import sys
import time
from pathlib import Path

import awkward as ak
import fastjet
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))
import beamline  # noqa: E402


def main():
    batches = list(beamline.read(sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "samples/jets.bl")))
    pt, eta, phi, mass = (np.concatenate([b[x] for b in batches]).astype(np.float64) for x in ("pt", "eta", "phi", "mass"))
    counts = np.concatenate([b.counts("pt") for b in batches])
    jets = len(counts)

    def particles():
        pz = pt * np.sinh(eta)
        columns = {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pz, "E": np.sqrt(pt**2 + pz**2 + mass**2)}
        return ak.unflatten(ak.zip(columns, with_name="Momentum4D"), counts)

    def cluster(algorithm, radius):
        return fastjet.ClusterSequence(particles(), fastjet.JetDefinition(algorithm, radius))

    def sums():
        total = {k: ak.sum(particles()[k], axis=1) for k in ("px", "py", "pz", "E")}
        t = np.hypot(total["px"], total["py"])
        return t, np.arcsinh(total["pz"] / t), np.arctan2(total["py"], total["px"]), np.sqrt(total["E"] ** 2 - t**2 - total["pz"] ** 2)

    def taus(axes):
        return cluster(fastjet.kt_algorithm, 1000.0).njettiness(axes_definition=axes, njets=[1, 2, 3], beta=1.0, R0=0.8)

    def correlators():
        sequence = cluster(fastjet.cambridge_algorithm, 1000.0)
        return [sequence.exclusive_jets_energy_correlator(njets=1, func=f) for f in ("c2", "d2")]

    rows = {
        "pt, eta, phi, mass": sums,
        "tau1..3, kt axes": lambda: taus("KT_Axes"),
        "tau1..3, minimised": lambda: taus("OnePass_KT_Axes"),
        "C2, D2": correlators,
        "soft-drop mass": lambda: cluster(fastjet.cambridge_algorithm, 1000.0).exclusive_jets_softdrop_grooming(njets=1).msoftdrop,
    }
    print(f"{'observables':20} {'jets/s':>10} {'us/jet':>12}   fastjet {fastjet.__version__}, one thread, {jets} jets, {counts.mean():.1f} constituents a jet")
    for name, work in rows.items():
        work()
        passed = []
        for _ in range(5):
            begin = time.perf_counter()
            work()
            passed.append(time.perf_counter() - begin)
        rate = jets / sorted(passed)[len(passed) // 2]
        print(f"{name:20} {rate:10.0f} {1e6 / rate:12.1f}")


main()
