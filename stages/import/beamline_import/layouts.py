"""Which columns of a file are what, and how its entries become jets.

Three layouts: jets (an entry is a jet: JetClass and what is like it), nano (an entry is an event; candidates stand once, an
index table says which are in which jet: CMS NanoAOD with PFCands), delphes (an entry is an event; each jet holds references
to its constituents). Each gives Jets; convert() makes columns of particles/1 of them and checks every value.
"""
import difflib

import numpy as np

from beamline import InputError, UsageError

from .names import (DELPHES_CANDIDATES, DELPHES_JET, DELPHES_PARTICLE, FLAGS, JET, JETCLASS, LABEL_PREFIX, NANO, NANO_JET, NANO_PARTICLE, PARTICLE,
                    TRACKING)

_STEP_JETS, _STEP_EVENTS = 8192, 1024  # entries read at a time


class Jets:
    """particle: {target: values}, flat; jet: {target: values}; offsets: int64 [jets + 1]; where: place of jet j in the file, in
    words; label_flags: {name: values}."""

    def __init__(self, particle, jet, offsets, where, label_flags=()):
        self.particle, self.jet, self.offsets, self.where, self.label_flags = particle, jet, offsets, where, dict(label_flags)

    def __len__(self):
        return len(self.offsets) - 1


def layout_of(source, options, request):
    """The layout of an open file. Raises InputError when it has none, and says what is missing and what there is."""
    if source.kind == "root":
        if any(n.endswith(".Constituents") for n in source.others):
            return Delphes(source, options, request)
        if options.collection or any(index in source.names for _, index, *_ in NANO):
            return Nano(source, options, request)
    if options.collection:
        raise UsageError(f"--collection is for NanoAOD and Delphes: an entry of '{source.path}' is a jet")
    return JetTable(source, request)


def lacks(source, what):
    """InputError that says what there is."""
    there = ", ".join(source.names[:40]) + (f" and {len(source.names) - 40} more" if len(source.names) > 40 else "")
    inside = f"tree '{source.tree}' of '{source.path}'" if source.tree else f"'{source.path}'"
    return InputError(f"{inside} has {what}; there are {there or 'no columns of numbers'}; name others by --map")


class JetTable:
    """An entry is a jet."""
    name = "jets"

    def __init__(self, source, request):
        self.source, self.columns, self.notes = source, {}, {}
        leaves = {}
        for name in source.names:
            for leaf in {name.rpartition(".")[2], name.replace(".", "_")}:
                leaves.setdefault(leaf, []).append(name)
        for target, usual in {**PARTICLE, **JET}.items():
            if target in request.columns:
                if request.columns[target]:
                    self.columns[target] = self._named(request.columns[target], target)
                continue
            for name in usual:  # a field of records, "part.px", is found as part_px and, where there is one only, as px
                found = name if name in source.names else leaves[name][0] if len(leaves.get(name, ())) == 1 else None
                if found:
                    self.columns[target] = found
                    break
        self._choose(request)
        self.label_flags = []
        if "label" not in self.columns and "label" not in request.columns and request.label is None:
            self.label_flags = [n for n in source.names if n.startswith(LABEL_PREFIX)]

    def _named(self, name, target):
        if name not in self.source.names:
            close = difflib.get_close_matches(name, self.source.names, 1, 0.6)
            nested = " (it is text, an object, or nested deeper than a list of numbers)" if name in self.source.others else ""
            raise lacks(self.source, f"no column '{name}' of numbers for {target}{nested}" + (f", did you mean '{close[0]}'?" if close else ""))
        return name

    def _choose(self, request):
        """Leaves out what another column gives better; raises InputError when something is missing."""
        c = self.columns
        have = c.keys()
        if {"pt", "eta", "phi"} <= have:
            unused = ("px", "py", "pz", "eta_rel", "phi_rel", "deta")
        elif {"px", "py", "pz"} <= have:
            unused = ("pt", "eta", "phi", "eta_rel", "phi_rel", "deta")
        elif "pt" in have:
            if not {"eta", "eta_rel", "deta"} & have:
                raise lacks(self.source, "no direction of the constituents in eta (part_eta, part_etarel or part_deta)")
            if not {"phi", "phi_rel"} & have:
                raise lacks(self.source, "no direction of the constituents in phi (part_phi, part_phirel or part_dphi)")
            unused = ("px", "py", "pz") + (("eta_rel", "deta") if "eta" in have else ("deta",) if "eta_rel" in have else ()) + (("phi_rel",) if "phi" in have else ())
        else:
            missing = [n for n in ("px", "py", "pz") if n not in have]
            raise lacks(self.source, f"no momenta of constituents: neither part_pt nor {', '.join('part_' + n for n in missing)}")
        if "mass" in have:
            unused += ("energy",)
        if "pid" in have or not all(flag in have for flag in FLAGS):
            unused += tuple(FLAGS)
        if not all(name in have for name in TRACKING):
            unused += TRACKING
        if not {"jet_pt", "jet_eta"} <= have:
            unused += ("jet_pt", "jet_mass", "jet_energy")
        elif "jet_mass" in have:
            unused += ("jet_energy",)
        for name in unused:
            if name in c and name in request.columns:
                raise UsageError(f"--map {name}={c[name]} would not be used beside {', '.join(n for n in c if n not in unused)}; leave out what it is to replace by --map NAME=")
            c.pop(name, None)
        for axis in ("eta", "phi"):
            if (f"{axis}_rel" in c or (axis == "eta" and "deta" in c)) and f"jet_{axis}" not in c:
                self.notes[f"jet_{axis}"] = f"not in the file: every jet is turned to {axis} = 0"
        if "jet_phi" not in c and "jet_pt" in c:
            self.notes["jet_phi"] = "not in the file: every jet is turned to phi = 0"

    def facts(self):
        return {"columns": {**self.columns, **({"label": self.label_flags} if self.label_flags else {})}, **self.notes}

    def labels(self):
        """{number: name} of the classes that flags name."""
        names = [n[len(LABEL_PREFIX):] for n in self.label_flags]
        known = all(n in JETCLASS for n in names)
        return {JETCLASS.index(n) if known else i: n for i, n in enumerate(names)}

    def pieces(self, skip, wanted):
        """Yields Jets: `wanted` of them (None: all) after the first `skip`; self.passed tells how many were passed over."""
        self.passed = min(skip, self.source.entries)
        last = self.source.entries if wanted is None else min(self.source.entries, skip + wanted)
        if skip >= last:
            return
        for start, columns in self.source.pieces([*self.columns.values(), *self.label_flags], skip, last, _STEP_JETS):
            yield self._jets(start, columns)

    def _jets(self, start, columns):
        offsets, first_name = None, None
        particle, jet = {}, {}

        def where(j):
            return f"'{self.source.path}', jet {start + j}"
        for target, name in self.columns.items():
            flat = columns[name]
            if target in JET:
                if flat.offsets is not None:
                    raise InputError(f"'{self.source.path}': '{name}' holds lists, one value a jet is expected for {target}")
                jet[target] = flat.values
                continue
            if flat.offsets is None:
                raise InputError(f"'{self.source.path}': '{name}' holds one value a jet, a list of the constituents is expected for {target}")
            if offsets is None:
                offsets, first_name = flat.offsets, name
            elif not np.array_equal(offsets, flat.offsets):
                j = int(np.flatnonzero(np.diff(offsets) != flat.counts)[0])
                raise InputError(f"{where(j)}: '{first_name}' holds {np.diff(offsets)[j]} values and '{name}' {flat.counts[j]}")
            particle[target] = flat.values
        flags = {name[len(LABEL_PREFIX):]: columns[name].values for name in self.label_flags}
        return Jets(particle, jet, offsets, where, flags)


class EventTable:
    """An entry is an event with several jets; jets_of(first, columns) makes Jets of a piece. The jets of an event share its id."""

    def __init__(self, source, request):
        self.source = source
        if request.columns:
            raise UsageError(f"--map is for files of one jet an entry; '{source.path}' is of layout {self.name}")

    def labels(self):
        return {}

    def pieces(self, skip, wanted):
        """As JetTable.pieces()."""
        self.passed, left = 0, wanted
        for start in range(0, self.source.entries, _STEP_EVENTS):
            if left == 0:
                return
            stop = min(start + _STEP_EVENTS, self.source.entries)
            for first, columns in self.source.pieces(self.needed, start, stop, _STEP_EVENTS):
                jets = self.jets_of(first, stop, columns)
                n = len(jets)
                begin = min(skip - self.passed, n)
                end = n if left is None else min(n, begin + left)
                self.passed += begin
                if left is not None:
                    left -= end - begin
                if end > begin:
                    yield cut(jets, begin, end)


def cut(jets, begin, end):
    """Jets [begin, end)."""
    a, b = int(jets.offsets[begin]), int(jets.offsets[end])
    return Jets({k: v[a:b] for k, v in jets.particle.items()}, {k: v[begin:end] for k, v in jets.jet.items()},
                jets.offsets[begin:end + 1] - a, lambda j: jets.where(begin + j), {k: v[begin:end] for k, v in jets.label_flags.items()})


def gather(columns, index):
    return {target: values[index] for target, values in columns.items()}


class Nano(EventTable):
    """CMS NanoAOD with PFCands: <collection>PFCands_{jetIdx, pFCandsIdx} list the candidates of each jet."""
    name = "nano"

    def __init__(self, source, options, request):
        super().__init__(source, request)
        known = [entry for entry in NANO if entry[1] in source.names]
        chosen = [entry for entry in known if not options.collection or entry[0] == options.collection]
        if not chosen:
            raise lacks(source, f"no constituents of a collection '{options.collection}'" if known else "no PFCands index of jets (FatJetPFCands_jetIdx, JetPFCands_jetIdx)")
        self.collection, self._jet_index, spellings, cands, weight = chosen[0]
        self._cand_index = next((s for s in spellings if s in source.names), None)
        if self._cand_index is None:
            raise lacks(source, f"no '{spellings[0]}' beside '{self._jet_index}'")
        self._particle = {t: f"{cands}_{n}" for t, n in NANO_PARTICLE.items() if f"{cands}_{n}" in source.names}
        self._weight = f"{cands}_{weight}" if weight and f"{cands}_{weight}" in source.names else None
        self._jet = {t: f"{self.collection}_{n}" for t, n in NANO_JET.items()}
        for name in (*(f"{cands}_{n}" for n in ("pt", "eta", "phi")), *self._jet.values()):
            if name not in source.names:
                raise lacks(source, f"no '{name}'")
        if not all(t in self._particle for t in TRACKING):
            for t in TRACKING:
                self._particle.pop(t, None)
        self._event = {t: n for t, n in (("event_id", "event"), ("weight", "genWeight")) if n in source.names}
        self.needed = [self._jet_index, self._cand_index, *self._particle.values(), *self._jet.values(), *self._event.values(), *filter(None, [self._weight])]

    def facts(self):
        weighted = {"constituents": f"pt and mass times {self._weight}, above 0"} if self._weight else {}
        return {"collection": self.collection, "columns": {**self._particle, **self._jet, **self._event}, **weighted}

    def jets_of(self, first, last, columns):
        path = self.source.path
        jets, cands = columns[self._jet["jet_pt"]], columns[self._particle["pt"]]
        jet_index, cand_index = columns[self._jet_index], columns[self._cand_index]
        n_jets, n_links = jets.counts, jet_index.counts
        event = np.repeat(np.arange(len(n_links)), n_links)  # of each link
        for index, counts, name in ((jet_index, n_jets, self._jet_index), (cand_index, cands.counts, self._cand_index)):
            if not np.array_equal(index.counts, n_links):
                e = int(np.flatnonzero(index.counts != n_links)[0])
                raise InputError(f"'{path}', event {first + e}: '{self._jet_index}' holds {n_links[e]} values and '{name}' {index.counts[e]}")
            wrong = np.flatnonzero((index.values < 0) | (index.values >= counts[event]))
            if len(wrong):
                e = int(event[wrong[0]])
                raise InputError(f"'{path}', event {first + e}, {name}: {index.values[wrong[0]]} is not one of the {counts[e]} there are")
        target = jets.offsets[event] + jet_index.values.astype(np.int64)
        chosen = cands.offsets[event] + cand_index.values.astype(np.int64)
        if self._weight:
            kept = columns[self._weight].values[chosen] > 0
            target, chosen = target[kept], chosen[kept]
        order = np.argsort(target, kind="stable")
        chosen = chosen[order]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(target, minlength=int(jets.offsets[-1])))]).astype(np.int64)
        particle = gather({t: columns[n].values for t, n in self._particle.items()}, chosen)
        if self._weight:
            for t in {"pt", "mass"} & particle.keys():
                particle[t] = particle[t] * columns[self._weight].values[chosen]
        if TRACKING[0] in particle:
            tracked = (particle["d0_error"] >= 0) & (particle["dz_error"] >= 0)  # -1 stands for no track
            for t in TRACKING:
                particle[t] = np.where(tracked, particle[t].astype(np.float64) * 10, 0.0)  # cm
        of_jet = np.repeat(np.arange(len(n_jets)), n_jets)
        jet = {t: columns[n].values for t, n in self._jet.items()}
        jet.update({t: columns[n].values[of_jet] for t, n in self._event.items()})
        if "event_id" not in jet:
            jet["event_id"] = first + of_jet
        return Jets(particle, jet, offsets, lambda j: f"'{path}', event {first + of_jet[j]}, jet {j - jets.offsets[of_jet[j]]}")


class Delphes(EventTable):
    """Delphes: <collection>.Constituents refers to objects of ParticleFlowCandidate by their unique ids."""
    name = "delphes"

    def __init__(self, source, options, request):
        super().__init__(source, request)
        suffix = ".Constituents"
        there = [n[:-len(suffix)] for n in source.others if n.endswith(suffix)]
        there = [jets for jets in there if f"{jets}.Mass" in source.names]  # vertices have constituents, too
        self.collection = options.collection or (there[0] if len(there) == 1 else "")
        if self.collection not in there:
            what = f"'{source.path}' has no jets '{self.collection}'" if self.collection else f"'{source.path}' has several kinds of jets: name one by --collection"
            raise (InputError if self.collection else UsageError)(f"{what}; there are {', '.join(there)}")
        self._references = self.collection + suffix
        self._particle = {t: f"{DELPHES_CANDIDATES}.{n}" for t, n in DELPHES_PARTICLE.items() if f"{DELPHES_CANDIDATES}.{n}" in source.names}
        self._jet = {t: f"{self.collection}.{n}" for t, n in DELPHES_JET.items()}
        self._id = f"{DELPHES_CANDIDATES}.fUniqueID"
        for name in (self._id, *(f"{DELPHES_CANDIDATES}.{n}" for n in ("PT", "Eta", "Phi")), *self._jet.values()):
            if name not in source.names:
                raise lacks(source, f"no '{name}'")
        if not all(t in self._particle for t in TRACKING):
            for t in TRACKING:
                self._particle.pop(t, None)
        self._event = {t: n for t, n in (("event_id", "Event.Number"), ("weight", "Event.Weight")) if n in source.names}
        self.needed = [self._id, *self._particle.values(), *self._jet.values(), *self._event.values()]

    def facts(self):
        return {"collection": self.collection, "columns": {**self._particle, **self._jet, **self._event}, "constituents": "with pt above 0"}

    def jets_of(self, first, last, columns):
        path = self.source.path
        wanted, offsets, per_event = self.source.references(self._references, first, last)
        jets, ids = columns[self._jet["jet_pt"]], columns[self._id]
        if not np.array_equal(per_event, jets.offsets):
            raise InputError(f"'{path}', events {first} to {last}: '{self._references}' and '{self.collection}.PT' hold different numbers of jets")
        of_jet = np.repeat(np.arange(len(per_event) - 1), np.diff(per_event))
        of_reference = np.repeat(of_jet, np.diff(offsets))
        # ids are unique within an event: (event, id) is looked up among the sorted pairs of the candidates
        key = np.repeat(np.arange(len(ids)), ids.counts) * 2**32 + ids.values.astype(np.int64)
        order = np.argsort(key, kind="stable")
        sought = of_reference * 2**32 + wanted
        place = np.minimum(np.searchsorted(key[order], sought), max(len(key) - 1, 0))
        found = key[order][place] == sought if len(key) else np.zeros(len(sought), bool)
        if not found.all():
            i = int(np.flatnonzero(~found)[0])
            raise InputError(f"'{path}', event {first + of_reference[i]}: jets '{self.collection}' refer to an object ({wanted[i]}) that is not among its "
                             f"{DELPHES_CANDIDATES}s: {(~found).sum()} of {len(found)} constituents are not in the file; name other jets by --collection")
        chosen = order[place]
        # candidates that PUPPI removed keep their place with pt 0
        kept = columns[self._particle["pt"]].values[chosen] > 0
        chosen, offsets = chosen[kept], np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)[offsets]
        particle = gather({t: columns[n].values for t, n in self._particle.items()}, chosen)
        jet = {t: columns[n].values for t, n in self._jet.items()}
        for t, n in self._event.items():
            if (columns[n].counts != 1).any():
                raise InputError(f"'{path}': '{n}' does not hold one value an event")
            jet[t] = columns[n].values[of_jet]
        if "event_id" not in jet:
            jet["event_id"] = first + of_jet
        return Jets(particle, jet, offsets, lambda j: f"'{path}', event {first + of_jet[j]}, jet {j - per_event[of_jet[j]]}")
