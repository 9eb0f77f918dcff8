"""Jets of a file as columns of particles/1: units, directions, masses and labels, every value checked."""
import numpy as np

from beamline import InputError, text_column

from .names import FLAGS, TRACKING

_LIMIT = 1e30     # GeV: above it a number is no momentum
_ETA = 20.0       # of particles/1
_MASS_ERROR = 1e-4  # an energy below the momentum by less than this part of it is rounding
_PI = np.float32(np.pi)


class Converter:
    """scale: GeV of one unit of the file; process, label: in place of the file's; names: of the labels, by number."""

    def __init__(self, scale=1.0, process="", label=None, names=None):
        self._scale, self._process, self._label, self._names = scale, process, label, dict(names or {})

    def columns(self, jets, first, default_id):
        """Columns of particles/1. first: event_index of the first jet; default_id: event_id of it, where the file has none."""
        n = len(jets)
        out = {
            "event_index": np.arange(first, first + n, dtype=np.uint64),
            "event_id": self._ids(jets, default_id),
            "weight": _per_jet(jets, "weight") if "weight" in jets.jet else np.ones(n),
        }
        label, names = self._labels(jets)
        out.update(text_column("process", names))
        if label is not None:
            out["label"] = label
        axis = self._jet(jets, out)
        out["particle_offsets"] = jets.offsets.astype(np.uint32)
        pt, eta = self._momenta(jets, axis, out)
        self._masses(jets, pt, eta, out)
        self._identities(jets, out)
        return out

    def _ids(self, jets, default_id):
        if "event_id" not in jets.jet:
            return np.arange(default_id, default_id + len(jets), dtype=np.uint64)
        values = jets.jet["event_id"]
        if values.dtype.kind == "f":
            wrong = ~((values >= 0) & (values < 2.0**53) & (values == np.floor(values)))
            _refuse_jet(jets, wrong, values, "event_id", "is not a whole number from 0 on")
        elif values.dtype.kind == "i":
            _refuse_jet(jets, values < 0, values, "event_id", "is negative")
        return values.astype(np.uint64)

    def _labels(self, jets):
        """(labels or None, a name a jet)"""
        n = len(jets)
        label = None
        if self._label is not None:
            label = np.full(n, self._label, np.int32)
        elif "label" in jets.jet:
            values = jets.jet["label"]
            if values.dtype.kind == "f":
                _refuse_jet(jets, ~((np.abs(values) < 2.0**31) & (values == np.floor(values))), values, "label", "is not a whole number")
            _refuse_jet(jets, (values.astype(np.int64) >= 2**31) | (values.astype(np.int64) < -2**31), values, "label", "does not fit in 32 bits")
            label = values.astype(np.int32)
        elif jets.label_flags:
            flags = np.stack([values != 0 for values in jets.label_flags.values()])
            several = flags.sum(axis=0) > 1
            if several.any():
                j = int(np.flatnonzero(several)[0])
                raise InputError(f"{jets.where(j)}: {' and '.join(k for k, f in zip(jets.label_flags, flags[:, j]) if f)} are both set, a jet has one label")
            number = {name: i for i, name in self._names.items()}
            label = np.where(flags.any(axis=0), np.array([number[k] for k in jets.label_flags])[flags.argmax(axis=0)], -1).astype(np.int32)
        if self._process:
            return label, [self._process] * n
        if label is None or not self._names:
            return label, [""] * n
        return label, [self._names.get(i, "") for i in label.tolist()]

    def _jet(self, jets, out):
        """Fills the columns of jets and returns their axes (eta, phi)."""
        zeros = np.zeros(len(jets))
        eta = _per_jet(jets, "jet_eta") if "jet_eta" in jets.jet else zeros
        phi = _angle_jet(jets, "jet_phi") if "jet_phi" in jets.jet else zeros
        if "jet_pt" in jets.jet:
            pt = _per_jet(jets, "jet_pt") * self._scale
            _refuse_jet(jets, (pt < 0) | (pt > _LIMIT), pt, "jet_pt", "is not a momentum in GeV")
            out.update(jet_pt=pt.astype(np.float32), jet_eta=eta.astype(np.float32), jet_phi=_wrap(phi))
            mass = None
            if "jet_mass" in jets.jet:
                mass = _per_jet(jets, "jet_mass") * self._scale
                _refuse_jet(jets, mass < -1e-3 * np.maximum(pt, 1), mass, "jet_mass", "is negative")
            elif "jet_energy" in jets.jet:
                mass, impossible = _mass(_per_jet(jets, "jet_energy") * self._scale, pt, eta)
                _refuse_jet(jets, impossible, jets.jet["jet_energy"], "jet_energy", "is below the jet's momentum")
            if mass is not None:
                out["jet_mass"] = np.maximum(mass, 0).astype(np.float32)
        return eta, phi

    def _momenta(self, jets, axis, out):
        """Fills pt, eta and phi; returns pt and eta in double precision."""
        counts = np.diff(jets.offsets)
        if "px" in jets.particle:
            px, py, pz = (_finite(jets, name) * self._scale for name in ("px", "py", "pz"))
            pt, phi = np.hypot(px, py), np.arctan2(py, px)
            _refuse(jets, (pt == 0) & (pz != 0), pz, "pz", "is along the beam: eta is infinite")
            eta = np.arcsinh(np.divide(pz, pt, out=np.zeros_like(pz), where=pt > 0))
        else:
            pt = _finite(jets, "pt") * self._scale
            if "eta" in jets.particle:
                eta = _finite(jets, "eta")
            elif "eta_rel" in jets.particle:
                eta = _finite(jets, "eta_rel") + np.repeat(axis[0], counts)
            else:
                eta = _finite(jets, "deta") * np.repeat(np.where(axis[0] > 0, 1.0, -1.0), counts) + np.repeat(axis[0], counts)
            name = "phi" if "phi" in jets.particle else "phi_rel"
            phi = _finite(jets, name)
            _refuse(jets, np.abs(phi) > 4 * np.pi, phi, name, "is not an angle in radians")
            if name == "phi_rel":
                phi = phi + np.repeat(axis[1], counts)
        _refuse(jets, (pt < 0) | (pt > _LIMIT), pt, "pt", "is not a momentum in GeV")
        _refuse(jets, np.abs(eta) > _ETA, eta, "eta", f"is outside -{_ETA:g} to {_ETA:g}")
        out.update(pt=pt.astype(np.float32), eta=eta.astype(np.float32), phi=_wrap(phi))
        return pt, eta

    def _masses(self, jets, pt, eta, out):
        if "mass" in jets.particle:
            mass = _finite(jets, "mass") * self._scale
            _refuse(jets, mass < -1e-3 * np.maximum(pt, 1), mass, "mass", "is negative")
        elif "energy" in jets.particle:
            energy = _finite(jets, "energy") * self._scale
            mass, impossible = _mass(energy, pt, eta)
            _refuse(jets, impossible, energy, "energy", "is below the momentum")
        else:
            return
        out["mass"] = np.maximum(mass, 0).astype(np.float32)

    def _identities(self, jets, out):
        p = jets.particle
        if "charge" in p:
            charge = _finite(jets, "charge")
            _refuse(jets, ~np.isin(charge, (-1, 0, 1)), charge, "charge", "is none of -1, 0 and 1")
            out["charge"] = charge.astype(np.int8)
        if "pid" in p:
            pid = _finite(jets, "pid")
            _refuse(jets, (pid != np.floor(pid)) | (np.abs(pid) >= 2**31), pid, "pid", "is not a whole number of 32 bits")
            out["pid"] = pid.astype(np.int32)
        elif "is_muon" in p:
            pid = np.zeros(int(jets.offsets[-1]), np.int32)
            for flag, number in FLAGS.items():
                pid[p[flag] != 0] = number
            out["pid"] = pid
        if all(name in p for name in TRACKING):
            for name in TRACKING:
                values = _finite(jets, name)
                if name.endswith("error"):
                    _refuse(jets, values < 0, values, name, "is negative")
                out[name] = values.astype(np.float32)


def _mass(energy, pt, eta):
    """sqrt(E^2 - p^2), and where it cannot be. m^2 below 0 within rounding gives 0. The momentum is pt cosh(eta), which is kept."""
    t = np.exp(eta)
    p = 0.5 * pt * (t + 1 / t)
    m2 = (energy - p) * (energy + p)
    return np.sqrt(np.maximum(m2, 0)), (m2 < 0) & (p - energy > _MASS_ERROR * p)


def _wrap(phi):
    """To [-pi, pi] as floats: the float nearest to pi is above pi, and must not be passed."""
    phi = np.where(np.abs(phi) <= np.pi, phi, phi - 2 * np.pi * np.round(phi / (2 * np.pi)))
    return np.clip(phi.astype(np.float32), -_PI, _PI)


def _refuse(jets, wrong, values, name, why):
    """InputError for the first constituent for which `wrong` holds."""
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        j = int(np.searchsorted(jets.offsets, i, "right")) - 1
        raise InputError(f"{jets.where(j)}, particle {i - jets.offsets[j]}, {name}: {values[i]:g} {why}")


def _refuse_jet(jets, wrong, values, name, why):
    if wrong.any():
        j = int(np.flatnonzero(wrong)[0])
        raise InputError(f"{jets.where(j)}, {name}: {values[j]:g} {why}")


def _finite(jets, name):
    values = jets.particle[name].astype(np.float64)
    _refuse(jets, ~np.isfinite(values), values, name, "is not a finite number")
    return values


def _per_jet(jets, name):
    values = jets.jet[name].astype(np.float64)
    _refuse_jet(jets, ~np.isfinite(values), values, name, "is not a finite number")
    return values


def _angle_jet(jets, name):
    values = _per_jet(jets, name)
    _refuse_jet(jets, np.abs(values) > 4 * np.pi, values, name, "is not an angle in radians")
    return values
