"""Large jets with their constituents: anti-kT R = 0.8, 500 < pt < 1000 GeV, |eta| < 2, matched to what decayed in them.

Momenta are smeared per particle before clustering; impact parameters come from true production vertices.
"""
import numpy as np

from .detector import ACCEPTANCE, MIN_PT, cluster
from .processes import RESONANCE
from .record import INVISIBLE, delta_phi, wrap

RADIUS, PT_RANGE, ETA = 0.8, (500.0, 1000.0), 2.0
TRACK_ETA = 2.5
MATCH_AXIS, MATCH_QUARK = 0.6, 0.8
MIN_CONSTITUENTS = 3
# purposes of random numbers
_MOMENTUM, _D0, _DZ = range(16, 19)
CHARGED_HADRON, NEUTRAL_HADRON, GAMMA, ELECTRON, MUON = 211, 130, 22, 11, 13


def momentum_resolution(kind, pt, e):
    """Relative, of a track (0.5 % and 10 % at 1 TeV), a photon (10 %/sqrt(E) and 1 %), a neutral hadron (100 %/sqrt(E) and 5 %)."""
    track, root = np.hypot(0.005, 1e-4 * pt), np.sqrt(np.maximum(e, 0.25))
    return np.select([kind == GAMMA, kind == NEUTRAL_HADRON], [np.hypot(0.10 / root, 0.01), np.minimum(np.hypot(1.0 / root, 0.05), 0.8)], track)


def impact_resolution(pt):
    """Of d0 and dz in mm: 15 micrometres and 80 micrometres GeV/pt."""
    return np.hypot(0.015, 0.08 / pt)


def smear(events, random, number, charge_of):
    """Makes of the final particles what the detector measures, in place; returns the flat indices of those that are seen
    and their class (PDG id without sign) and charge."""
    seen = np.flatnonzero((events.status > 0) & ~np.isin(events.abs_id, INVISIBLE) & (np.abs(events.eta) < ACCEPTANCE) & (events.pt > MIN_PT))
    ids, inverse = np.unique(events.id[seen], return_inverse=True)
    charge = np.array([charge_of(int(i)) for i in ids])[inverse]
    a = events.abs_id[seen]
    track = (charge != 0) & (np.abs(events.eta[seen]) < TRACK_ETA)
    charge = np.where(track, np.sign(charge), 0).astype(np.int8)
    kind = np.select([a == 22, track & (a == 11), track & (a == 13), track, a == 11], [GAMMA, ELECTRON, MUON, CHARGED_HADRON, GAMMA], NEUTRAL_HADRON)
    inside = seen - events.offsets[events.event[seen]]
    scale = np.maximum(0.05, 1 + momentum_resolution(kind, events.pt[seen], events.e[seen]) * random.normal(_MOMENTUM, number[events.event[seen]], inside))
    for component in (events.px, events.py, events.pz, events.e, events.pt, events.m):
        component[seen] *= scale
    return seen, kind, charge


def truth(events, name):
    """What may have made a jet of class `name`: (flat indices [n], flat indices of the quarks, gluons and charged leptons of
    its decay [n, k], -1 for none)."""
    pdg = RESONANCE[name]
    if pdg is None:  # the two partons of the hard process are particles 5 and 6
        index = (events.offsets[:-1, None] + np.array([5, 6])).ravel()
        if name in ("q", "g"):
            index = index[(events.abs_id[index] == 21) == (name == "g")]
        return index, np.full((len(index), 1), -1)
    copies = np.flatnonzero((events.abs_id == pdg) & (events.status < 0))
    d1, d2 = daughters(events, copies)
    last = (events.abs_id[d1] != pdg) & (events.abs_id[d2] != pdg) & (d1 != d2)
    copies, d1, d2 = copies[last], d1[last], d2[last]
    if name in ("H4q", "Hqql"):
        good = (events.abs_id[d1] == 24) & (events.abs_id[d2] == 24)
        copies, d1, d2 = copies[good], d1[good], d2[good]
        products = np.stack([*w_products(events, d1), *w_products(events, d2)], axis=1)
        leptons = np.isin(events.abs_id[products], (11, 13)).sum(axis=1)
        good = leptons == (name == "Hqql")
        copies, products = copies[good], products[good]
    elif pdg == 6:
        w, b = np.where(events.abs_id[d1] == 24, d1, d2), np.where(events.abs_id[d1] == 24, d2, d1)
        good = (events.abs_id[w] == 24) & (events.abs_id[b] == 5)
        copies, w, b = copies[good], w[good], b[good]
        products = np.stack([b, *w_products(events, w)], axis=1)
    else:
        products = np.stack([d1, d2], axis=1)
    return copies, np.where(np.isin(events.abs_id[products], (12, 14, 16)), -1, products)


def daughters(events, i):
    """Flat indices of the two daughters of particles i (flat)."""
    base = events.offsets[events.event[i]]
    return base + events.daughter1[i], base + events.daughter2[i]


def w_products(events, w):
    """Daughters of the last copy of W bosons w (flat)."""
    for _ in range(50):
        d1, d2 = daughters(events, w)
        same = events.abs_id[d1] == 24
        if not same.any():
            break
        w = np.where(same, d1, w)
    return d1, d2


def reconstruct(events, random, number, name, charge_of):
    """Jets of class `name`. Returns a list of dicts, one a jet, in the order of the events: "event", "process", "jet_*"
    and arrays of the constituents by falling pt."""
    axes, quarks = truth(events, name)
    target = {"eta": events.eta[axes], "phi": events.phi[axes], "event": events.event[axes]}
    quark_eta, quark_phi = events.eta[quarks], events.phi[quarks]
    flavour = events.abs_id[axes].copy()
    seen, kind, charge = smear(events, random, number, charge_of)
    px, py, pz, e, event, members = cluster(events, seen, RADIUS, PT_RANGE[0], constituents=True)
    pt = np.hypot(px, py)
    place = np.full(len(events.id), -1)
    place[seen] = np.arange(len(seen))
    jets = []
    for j in np.lexsort((-pt, event)):
        eta, phi = np.arcsinh(pz[j] / pt[j]), np.arctan2(py[j], px[j])
        if not PT_RANGE[0] < pt[j] < PT_RANGE[1] or abs(eta) > ETA or len(members[j]) < MIN_CONSTITUENTS:
            continue
        mine = target["event"] == event[j]
        mine &= (target["eta"] - eta) ** 2 + delta_phi(target["phi"], phi) ** 2 < MATCH_AXIS**2
        inside = (quark_eta - eta) ** 2 + delta_phi(quark_phi, phi) ** 2 < MATCH_QUARK**2
        mine &= (inside | (quarks < 0)).all(axis=1)
        match = np.flatnonzero(mine)
        if len(match) == 0:
            continue
        process = name if name != "QCD" else "QCD-g" if flavour[match[0]] == 21 else "QCD-q"
        c = members[j][np.argsort(-events.pt[members[j]], kind="stable")]
        k = place[c]
        n = number[event[j]]
        entry = c - events.offsets[event[j]]
        is_track = charge[k] != 0
        x, y, z, cx, cy, cz, cpt = (v[c] for v in (events.x, events.y, events.z, events.px, events.py, events.pz, events.pt))
        sigma = np.where(is_track, impact_resolution(cpt), 0.0)
        # closest approach of a straight line from the production vertex to the beam axis
        d0 = np.where(is_track, (x * cy - y * cx) / cpt, 0.0) + sigma * random.normal(_D0, n, entry)
        dz = np.where(is_track, z - (x * cx + y * cy) / cpt**2 * cz, 0.0) + sigma * random.normal(_DZ, n, entry)
        jets.append({
            "event": int(event[j]), "process": process,
            "jet_pt": pt[j], "jet_eta": eta, "jet_phi": phi,
            "jet_mass": np.sqrt(max(e[j] ** 2 - px[j] ** 2 - py[j] ** 2 - pz[j] ** 2, 0.0)),
            "pt": cpt, "eta": events.eta[c], "phi": wrap(events.phi[c]), "mass": np.maximum(events.m[c], 0.0),
            "charge": charge[k], "pid": kind[k] * np.where(is_track, np.where(kind[k] == CHARGED_HADRON, 1, -1) * charge[k], 1),
            "d0": d0, "d0_error": sigma, "dz": dz, "dz_error": sigma,
        })
    return jets
