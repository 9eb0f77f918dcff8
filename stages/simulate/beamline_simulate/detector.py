"""The parametric detector of whole events: stable particles in, reconstructed objects and missing momentum out.

A model in the spirit of Delphes' CMS card (arXiv:1307.6346), much reduced; no pile-up. docs/samples.md has it in prose.
"""
import awkward as ak
import fastjet
import numpy as np
import vector

from .record import INVISIBLE, delta_phi, wrap

vector.register_awkward()

ACCEPTANCE, MIN_PT = 4.5, 0.5                                  # |eta| and pt of particles that are seen
LEPTON_PT, LEPTON_ETA, PHOTON_PT = 15.0, 2.5, 20.0
ISOLATION_CONE, ISOLATION = 0.3, 0.15                          # scalar pt sum around a lepton or photon over its pt
JET_RADIUS, JET_PT, JET_ETA = 0.4, 30.0, 2.8
SOFT_JET_PT = 15.0                                             # jets above it are smeared, what is softer is the soft term
TAG_ETA, TAG_CONE, TAG_HADRON_PT = 2.5, 0.3, 5.0
TAG = {5: 0.75, 4: 0.15, 0: 0.015}                             # b-tag efficiency of b, c and light jets
JET, ELECTRON, MUON, PHOTON = 1, 2, 3, 4
# purposes of random numbers
_EFFICIENCY, _RESOLUTION, _JET_RESOLUTION, _JET_TAG, _MET_X, _MET_Y = range(6)


def efficiency(kind, eta):
    """Of identifying and reconstructing an isolated prompt lepton or photon within the acceptance."""
    central = np.abs(eta) < 1.5
    return np.select([kind == MUON, kind == ELECTRON], [0.95, np.where(central, 0.88, 0.80)], np.where(central, 0.85, 0.75))


def lepton_resolution(kind, pt, e):
    """Relative. Muons: tracks, 1 % and 10 % at 1 TeV. Electrons and photons: calorimeter, 10 %/sqrt(E/GeV) and 1 %."""
    return np.where(kind == MUON, np.hypot(0.01, 1e-4 * pt), np.hypot(0.10 / np.sqrt(np.maximum(e, 1.0)), 0.01))


def jet_resolution(pt):
    """Relative: 80 %/sqrt(pt/GeV) and 5 %."""
    return np.hypot(0.8 / np.sqrt(np.maximum(pt, 1.0)), 0.05)


def cluster(events, particles, radius, min_pt, constituents=False):
    """Anti-kT jets of the given particles (flat indices in order). Returns (jet arrays px py pz e and their event, and,
    if asked, a list of flat indices of each jet's particles). Events without particles have no jets."""
    counts = np.bincount(events.event[particles], minlength=events.n)
    filled = np.flatnonzero(counts)
    momenta = ak.zip({"px": events.px[particles], "py": events.py[particles], "pz": events.pz[particles], "E": events.e[particles]}, with_name="Momentum4D")
    sequence = fastjet.ClusterSequence(ak.unflatten(momenta, counts[filled]), fastjet.JetDefinition(fastjet.antikt_algorithm, radius))
    jets = sequence.inclusive_jets(min_pt=min_pt)
    event = np.repeat(filled, ak.to_numpy(ak.num(jets)))
    arrays = [ak.to_numpy(ak.flatten(jets[k])) for k in ("px", "py", "pz", "E")]
    if not constituents:
        return *arrays, event
    starts = np.concatenate([[0], np.cumsum(counts)])[event]
    members = ak.flatten(sequence.constituent_index(min_pt=min_pt), axis=1)
    return *arrays, event, [particles[start + ak.to_numpy(m)] for start, m in zip(starts, members)]


def padded(event, n, *values):
    """Flat per-object values of n events (events in order) as [n, most] arrays, and the mask."""
    counts = np.bincount(event, minlength=n)
    mask = np.arange(counts.max(initial=0)) < counts[:, None]
    out = []
    for v in values:
        p = np.zeros(mask.shape, np.asarray(v).dtype)
        p[mask] = v
        out.append(p)
    return *out, mask


def near(event, eta, phi, hadrons, events, cone):
    """Whether one of the hadrons (flat indices of particles) is within `cone` of each of the given directions."""
    a_eta, a_phi, a_mask = padded(event, events.n, eta, phi)
    b_eta, b_phi, b_mask = padded(events.event[hadrons], events.n, events.eta[hadrons], events.phi[hadrons])
    if b_mask.shape[1] == 0:
        return np.zeros(len(eta), bool)
    r2 = (a_eta[:, :, None] - b_eta[:, None]) ** 2 + delta_phi(a_phi[:, :, None], b_phi[:, None]) ** 2
    return ((r2 < cone**2) & b_mask[:, None]).any(axis=2)[a_mask]


def hadrons_with(events, quark):
    """Hadrons that hold the given heavy quark, above TAG_HADRON_PT."""
    a = events.abs_id
    holds = (a > 100) & (a < 1000000) & (((a // 100) % 10 == quark) | ((a // 1000) % 10 == quark))
    return np.flatnonzero(holds & (events.pt > TAG_HADRON_PT))


def reconstruct(events, random, number):
    """events: Events; random: Random; number [n]: counter of each event for the random numbers.

    Returns {"event", "type", "charge", "pt", "eta", "phi", "mass", "btag"} of the objects, by event and falling pt, and
    {"met", "met_phi"} [n]."""
    final = events.status > 0
    visible = np.flatnonzero(final & ~np.isin(events.abs_id, INVISIBLE) & (np.abs(events.eta) < ACCEPTANCE) & (events.pt > MIN_PT))

    # Electrons, muons and photons: prompt, isolated, found with some efficiency
    a, pt = events.abs_id[visible], events.pt[visible]
    candidates = visible[(np.abs(events.eta[visible]) < LEPTON_ETA) & (((a == 11) | (a == 13)) & (pt > LEPTON_PT) | (a == 22) & (pt > PHOTON_PT))]
    candidates = candidates[events.prompt(candidates)]
    start = np.searchsorted(visible, events.offsets)
    isolated = np.empty(len(candidates), bool)
    for k, c in enumerate(candidates):
        around = visible[start[events.event[c]]:start[events.event[c] + 1]]
        r2 = (events.eta[around] - events.eta[c]) ** 2 + delta_phi(events.phi[around], events.phi[c]) ** 2
        isolated[k] = events.pt[around[r2 < ISOLATION_CONE**2]].sum() - events.pt[c] < ISOLATION * events.pt[c]
    kind = np.select([events.abs_id[candidates] == 11, events.abs_id[candidates] == 13], [ELECTRON, MUON], PHOTON)
    inside = candidates - events.offsets[events.event[candidates]]  # a particle's number in its event keys its random numbers
    found = isolated & (random.uniform(_EFFICIENCY, number[events.event[candidates]], inside) < efficiency(kind, events.eta[candidates]))
    leptons, kind, inside = candidates[found], kind[found], inside[found]
    l_event = events.event[leptons]
    spread = lepton_resolution(kind, events.pt[leptons], events.e[leptons])
    l_scale = np.maximum(0.05, 1 + spread * random.normal(_RESOLUTION, number[l_event], inside))
    l_charge = np.where(kind == PHOTON, 0, -np.sign(events.id[leptons]))

    # Jets of everything else
    rest = np.setdiff1d(visible, leptons, assume_unique=True)
    px, py, pz, e, j_event = cluster(events, rest, JET_RADIUS, SOFT_JET_PT)
    j_pt = np.hypot(px, py)
    order = np.lexsort((-j_pt, j_event))
    px, py, pz, e, j_event, j_pt = (v[order] for v in (px, py, pz, e, j_event, j_pt))
    first = np.searchsorted(j_event, np.arange(events.n))
    rank = np.arange(len(j_event)) - first[j_event]
    j_scale = np.maximum(0.05, 1 + jet_resolution(j_pt) * random.normal(_JET_RESOLUTION, number[j_event], rank))
    eta, phi = np.arcsinh(pz / j_pt), np.arctan2(py, px)
    mass = np.sqrt(np.maximum(e**2 - px**2 - py**2 - pz**2, 0.0))
    is_b = near(j_event, eta, phi, hadrons_with(events, 5), events, TAG_CONE)
    is_c = ~is_b & near(j_event, eta, phi, hadrons_with(events, 4), events, TAG_CONE)
    chance = np.select([np.abs(eta) >= TAG_ETA, is_b, is_c], [0.0, TAG[5], TAG[4]], TAG[0])
    tagged = random.uniform(_JET_TAG, number[j_event], rank) < chance

    # Missing momentum: minus the sum of what was measured; the soft term is resolved by 0.5 sqrt(its scalar sum) and 10 GeV
    def total(values, which):
        return np.bincount(which, values, minlength=events.n)
    soft_x = total(events.px[rest], events.event[rest]) - total(px, j_event)
    soft_y = total(events.py[rest], events.event[rest]) - total(py, j_event)
    soft_sum = np.maximum(total(events.pt[rest], events.event[rest]) - total(j_pt, j_event), 0.0)
    width = np.hypot(0.5 * np.sqrt(soft_sum), 10.0)
    mx = -(total(events.px[leptons] * l_scale, l_event) + total(px * j_scale, j_event) + soft_x + width * random.normal(_MET_X, number))
    my = -(total(events.py[leptons] * l_scale, l_event) + total(py * j_scale, j_event) + soft_y + width * random.normal(_MET_Y, number))

    keep = (j_pt * j_scale > JET_PT) & (np.abs(eta) < JET_ETA)
    objects = {
        "event": np.concatenate([l_event, j_event[keep]]),
        "type": np.concatenate([kind, np.full(keep.sum(), JET)]).astype(np.uint8),
        "charge": np.concatenate([l_charge, np.zeros(keep.sum())]).astype(np.int8),
        "pt": np.concatenate([events.pt[leptons] * l_scale, (j_pt * j_scale)[keep]]).astype(np.float32),
        "eta": np.concatenate([events.eta[leptons], eta[keep]]).astype(np.float32),
        "phi": _phi32(np.concatenate([events.phi[leptons], phi[keep]])),
        "mass": np.concatenate([np.maximum(events.m[leptons], 0.0), (mass * j_scale)[keep]]).astype(np.float32),
        "btag": np.concatenate([np.zeros(len(leptons)), tagged[keep]]).astype(np.float32),
    }
    order = np.lexsort((-objects["pt"], objects["event"]))
    objects = {name: values[order] for name, values in objects.items()}
    return objects, {"met": np.hypot(mx, my).astype(np.float32), "met_phi": _phi32(np.arctan2(my, mx))}


def _phi32(phi):
    """Rounding to f32 must not push an angle beyond the f32 nearest to pi."""
    return np.clip(wrap(phi).astype(np.float32), np.float32(-np.pi), np.float32(np.pi))


def multitop(objects, n):
    """The selection of the multi-top samples: at least 5 jets, 2 of them b-tagged, and a scalar pt sum above 400 GeV."""
    jets = np.bincount(objects["event"], objects["type"] == JET, minlength=n)
    tags = np.bincount(objects["event"], objects["btag"] > 0.5, minlength=n)
    sums = np.bincount(objects["event"], objects["pt"], minlength=n)
    return (jets >= 5) & (tags >= 2) & (sums > 400.0)


SELECTIONS = {"none": lambda objects, n: np.ones(n, bool), "multitop": multitop}
