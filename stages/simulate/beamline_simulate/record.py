"""Pythia's events as flat numpy arrays, and random numbers that depend on nothing but what they are for."""
import awkward as ak
import numpy as np

from beamline.xxh3 import hash_rows

INVISIBLE = np.array([12, 14, 16, 1000022])


class Events:
    """Particles of `n` events: flat arrays, `offsets` [n + 1], `event` the number of the event of each particle.
    GeV and mm; mother and daughter numbers count within an event."""

    def __init__(self, batch, vertices=False):
        prt = batch.prt
        self.n = len(batch)
        self.counts = ak.to_numpy(ak.num(prt.id))
        self.offsets = np.concatenate([[0], np.cumsum(self.counts)])
        self.event = np.repeat(np.arange(self.n), self.counts)

        def flat(field):
            return ak.to_numpy(ak.flatten(field))
        self.id, self.status = flat(prt.id), flat(prt.status)
        self.abs_id = np.abs(self.id)
        self.mother, self.daughter1, self.daughter2 = flat(prt.mother1), flat(prt.daughter1), flat(prt.daughter2)
        self.px, self.py, self.pz, self.e = (flat(prt.p[k]) for k in ("px", "py", "pz", "e"))
        self.m = flat(prt.m)
        self.pt = np.hypot(self.px, self.py)
        with np.errstate(divide="ignore", invalid="ignore"):  # the beams have no pt
            self.eta = np.where(self.pt > 0, np.arcsinh(self.pz / self.pt), np.copysign(99.0, self.pz))
        self.phi = np.arctan2(self.py, self.px)
        if vertices:
            self.x, self.y, self.z = (flat(ak.fill_none(prt.vProd[k], 0.0)) for k in ("px", "py", "pz"))
        self.weights = ak.to_numpy(batch.info.weights[:, 0])

    def mothers(self, i):
        """Flat index of the first mother of particles i (flat); -1 where there is none."""
        mother = self.mother[i]
        return np.where(mother > 0, self.offsets[self.event[i]] + mother, -1)

    def prompt(self, i):
        """Whether particles i come from a W, Z or Higgs boson (or a heavier one), and not from a hadron: the chain of first
        mothers is followed upwards to the first of either. A chain without a boson ends at a beam proton, a hadron."""
        prompt, at = np.ones(len(i), bool), np.array(i)
        for _ in range(200):
            at = np.where(at >= 0, self.mothers(at), -1)
            live = at >= 0
            if not live.any():
                break
            a = self.abs_id[at]
            prompt &= ~(live & (a > 100) & (a < 1000000))           # a hadron
            at = np.where(live & prompt & ~np.isin(a, (23, 24, 25, 32, 35, 36)), at, -1)
        return prompt


def delta_phi(a, b):
    return (a - b + np.pi) % (2 * np.pi) - np.pi


def wrap(phi):
    return np.arctan2(np.sin(phi), np.cos(phi))


class Random:
    """Counter-based random numbers: a function of (key, event, entry, purpose), so that neither batches nor processes
    matter. The bits are xxh3-64 of the counters under the key."""

    def __init__(self, key):
        self.key = key

    def bits(self, purpose, event, entry=0):
        event, entry = np.broadcast_arrays(np.asarray(event, np.uint64), np.asarray(entry, np.uint64))
        words = np.stack([event, (entry << np.uint64(8)) | np.uint64(purpose)], axis=-1)
        return hash_rows(np.ascontiguousarray(words).view(np.uint8).reshape(-1, 16), np.uint64(self.key)).reshape(event.shape)

    def uniform(self, purpose, event, entry=0):
        """In [0, 1)."""
        return (self.bits(purpose, event, entry) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(self, purpose, event, entry=0):
        """Standard normal (Box-Muller)."""
        b = self.bits(purpose, event, entry)
        u = ((b & np.uint64(0xFFFFFFFF)).astype(np.float64) + 1.0) * 2.0**-32
        v = (b >> np.uint64(32)).astype(np.float64) * 2.0**-32
        return np.sqrt(-2.0 * np.log(u)) * np.cos(2.0 * np.pi * v)
