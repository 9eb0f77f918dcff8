"""Writes substructure.golden: jets of samples/jets.bl and what FastJet and fjcontrib (PyPI fastjet) make of them.

usage: substructure.py FILE    with the interpreter of `make -f Makefile.workflow venv`

jets/{offsets,pt,eta,phi,mass}: constituents. The other arrays have one row a jet, once for constituents without mass
(massless/…) and once with (massive/…):
  kinematics          pt, eta, phi, mass of the sum, in extended precision
  omnijet             tau1, tau2, tau3 as gabbro/metrics/jet_substructure.py of uhh-pd-ml/omnijet_alpha defines them (kt with
                      R = 0.8, beam included; pseudorapidity distances), and d2
  tau_kt, tau_kt_2    Nsubjettiness(KT_Axes, NormalizedMeasure(1, 0.8)) for N = 1, 2, 3; the same with beta 2
  tau_wta, tau_onepass   WTA_KT_Axes; OnePass_KT_Axes
  correlators         e2, e3, C2, D2 for beta 1, then e2, e3, C2, D2 for beta 2
  softdrop            mass, z and dR for (z_cut 0.1, beta 0), then for (0.05, 1)
  antikt, cambridge, kt   subjets for R = 0.2, 0.3 and 0.4: number, then pt and mass of the two hardest (0: none)
"""
import sys
from pathlib import Path

import awkward as ak
import fastjet
import numpy as np

import golden

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "python"))
import beamline  # noqa: E402

EVERY = 9  # jets of the sample: a tenth of all classes


def read_jets():
    columns, offsets, k = {x: [] for x in ("pt", "eta", "phi", "mass")}, [0], 0
    for batch in beamline.read(str(HERE.parents[1] / "samples/jets.bl")):
        for i in range(batch.events):
            if k % EVERY == 0:
                for name, values in columns.items():
                    values.append(batch.event(name, i))
                offsets.append(offsets[-1] + len(columns["pt"][-1]))
            k += 1
    return [np.concatenate(x) for x in columns.values()] + [np.array(offsets)]


def split(values, offsets):
    return [values[a:b] for a, b in zip(offsets[:-1], offsets[1:])]


def vectors(pt, eta, phi, mass, dtype=np.float64):
    pt, eta, phi, mass = (x.astype(dtype) for x in (pt, eta, phi, mass))
    pz = pt * np.sinh(eta)
    return pt * np.cos(phi), pt * np.sin(phi), pz, np.sqrt(pt**2 + pz**2 + mass**2)


def kinematics(pt, eta, phi, mass, offsets):
    rows = []
    for one in zip(*(split(x, offsets) for x in (pt, eta, phi, mass))):
        px, py, pz, e = (x.sum() for x in vectors(*one, dtype=np.longdouble))
        t = np.hypot(px, py)
        rows.append([t, np.arcsinh(pz / t), np.arctan2(py, px), np.sqrt(max(e**2 - px**2 - py**2 - pz**2, 0))])
    return np.array(rows, dtype=np.float64)


def omnijet(cluster, pt, eta, phi, offsets, radius=0.8):
    axes = {n: cluster.exclusive_jets(n_jets=n) for n in (1, 2, 3)}
    rows = []
    for j, (t, y, f) in enumerate(zip(*(split(x.astype(np.float64), offsets) for x in (pt, eta, phi)))):
        row = []
        for n in (1, 2, 3):
            a = axes[n][j]
            px, py, pz = (a[k].to_numpy() for k in ("px", "py", "pz"))
            dphi = (f[:, None] - np.arctan2(py, px)[None, :] + np.pi) % (2 * np.pi) - np.pi
            distance = np.hypot(y[:, None] - np.arcsinh(pz / np.hypot(px, py))[None, :], dphi)
            row.append((t * distance.min(axis=1)).sum() / (t * radius).sum())
        rows.append(row)
    return np.array(rows)


def hardest(cluster):
    rows = []
    for jets in cluster.inclusive_jets():
        px, py, pz, e = (jets[k].to_numpy() for k in ("px", "py", "pz", "E"))
        t, m = np.hypot(px, py), np.sqrt(np.maximum(e**2 - px**2 - py**2 - pz**2, 0))
        order = np.argsort(-t)[:2]
        pairs = [x for i in order for x in (t[i], m[i])]
        rows.append([len(t), *pairs, *[0] * (4 - len(pairs))])
    return np.array(rows)


def columns(*values):
    return np.stack([np.asarray(v).reshape(-1) for v in values], axis=1)


def main():
    pt, eta, phi, mass, offsets = read_jets()
    jets = len(offsets) - 1
    arrays = {"jets/offsets": offsets, "jets/pt": pt, "jets/eta": eta, "jets/phi": phi, "jets/mass": mass}
    for kind, m in (("massless", 0 * mass), ("massive", mass)):
        px, py, pz, e = vectors(pt, eta, phi, m)
        particles = ak.unflatten(ak.zip({"px": px, "py": py, "pz": pz, "E": e}, with_name="Momentum4D"), np.diff(offsets))

        def cluster(algorithm, radius):
            return fastjet.ClusterSequence(particles, fastjet.JetDefinition(algorithm, radius))

        kt = cluster(fastjet.kt_algorithm, 0.8)
        whole = cluster(fastjet.cambridge_algorithm, 1000.0)

        def taus(axes, beta=1.0):
            return np.asarray(whole.njettiness(axes_definition=axes, njets=[1, 2, 3], beta=beta, R0=0.8)).reshape(jets, 3)

        def correlator(function, beta):
            return whole.exclusive_jets_energy_correlator(njets=1, beta=beta, func=function)

        def e_n(n, beta):
            return whole.exclusive_jets_energy_correlator(njets=1, beta=beta, npoint=n, func="generic", normalized=False)

        def e(n, beta):
            return np.asarray(e_n(n, beta)) / np.asarray(e_n(1, beta)) ** n

        arrays[f"{kind}/kinematics"] = kinematics(pt, eta, phi, m, offsets)
        arrays[f"{kind}/omnijet"] = np.hstack([omnijet(kt, pt, eta, phi, offsets), columns(kt.exclusive_jets_energy_correlator(njets=1, func="d2"))])
        arrays[f"{kind}/tau_kt"] = taus("KT_Axes")
        arrays[f"{kind}/tau_kt_2"] = taus("KT_Axes", 2.0)
        arrays[f"{kind}/tau_wta"] = taus("WTA_KT_Axes")
        arrays[f"{kind}/tau_onepass"] = taus("OnePass_KT_Axes")
        arrays[f"{kind}/correlators"] = columns(*[x for b in (1, 2) for x in (e(2, b), e(3, b), correlator("c2", b), correlator("d2", b))])
        dropped = [whole.exclusive_jets_softdrop_grooming(njets=1, beta=b, symmetry_cut=z, R0=0.8) for z, b in ((0.1, 0.0), (0.05, 1.0))]
        arrays[f"{kind}/softdrop"] = columns(*[x for d in dropped for x in (d.msoftdrop, d.symmetrysoftdrop, d.deltaRsoftdrop)])
        for name, algorithm, radius in (("antikt", fastjet.antikt_algorithm, 0.2), ("cambridge", fastjet.cambridge_algorithm, 0.3), ("kt", fastjet.kt_algorithm, 0.4)):
            arrays[f"{kind}/{name}"] = hardest(cluster(algorithm, radius))
    golden.write(sys.argv[1], arrays)


main()
