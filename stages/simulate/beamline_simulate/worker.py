"""One chunk of events: what a worker process computes. A chunk depends on (seed, process, chunk number, settings) alone,
so the number of processes does not matter."""
import os
import signal
import threading
import time
from pathlib import Path

from .processes import COMMON, EVENTS, JETS, JETS_COMMON

CHUNK = 500          # accepted events (or jets) of a chunk; part of the definition of a sample
STEP = 100           # events handed over by Pythia at a time; the result does not depend on it
MAX_TRIES = 400_000  # events tried for a chunk before its selection is called hopeless


def start(counter):
    """Once per worker process. FastJet prints a banner on standard output, where our stream is; and pythia8mc runs every
    file of a folder called python in the working directory when it is imported, so this one is left first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.chdir(Path(__file__).parent)
    global _counter
    _counter = counter
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()


def _leave_with(parent):
    """A parent that was killed cannot stop its workers."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def generator(mode, process, variant, seed, mpi):
    """An initialised Pythia. variant: further settings."""
    import pythia8mc

    from .errors import Failed
    pythia = pythia8mc.Pythia("", False)
    settings = COMMON + (JETS_COMMON if mode == "jets" else []) + list(process.settings) + list(variant)
    for setting in settings + ["Random:setSeed=on", f"Random:seed={seed}", f"PartonLevel:MPI={'on' if mpi else 'off'}"]:
        if not pythia.readString(setting):
            raise Failed(f"{process.name}: Pythia refuses the setting '{setting}'")
    if not pythia.init():
        raise Failed(f"{process.name}: Pythia could not be initialised")
    return pythia


def pythia_seed(seed, process, chunk):
    from beamline.xxh3 import hash64
    return hash64(f"{process.number}/{chunk}".encode(), seed) % 899_999_999 + 1


def generate(mode, name, seed, chunk, wanted, selection, mpi):
    """Returns (columns of `wanted` events or jets, facts). The first events of a chunk do not depend on `wanted`."""
    import numpy as np

    from .errors import Failed
    from .record import Events, Random
    process = (EVENTS if mode == "events" else JETS)[name]
    key = pythia_seed(seed, process, chunk)
    pythias = [generator(mode, process, variant, key, mpi) for variant in process.variants]
    random = Random((seed ^ (process.number << 48) ^ (chunk << 16)) & (2**64 - 1))
    parts, have, tried, turn = [], 0, 0, 0
    started = time.monotonic()
    while have < wanted:
        pythia = pythias[turn % len(pythias)]
        turn += 1
        batch = pythia.nextBatch(STEP, "skip")
        if len(batch) == 0:
            raise Failed(f"{name}: Pythia makes no more events in chunk {chunk}")
        events = Events(batch, vertices=mode == "jets")
        number = tried + np.arange(events.n)
        tried += events.n
        part, new = (_objects if mode == "events" else _jets)(events, random, number, process, selection, pythia)
        parts.append(part)
        have += new
        with _counter.get_lock():
            _counter.value += min(new, max(0, wanted - have + new))
        if tried >= MAX_TRIES and have < wanted * tried / (50 * MAX_TRIES):
            raise Failed(f"{name}: only {have} of {tried} events pass; loosen --selection or leave the process out")
    infos = [p.infoPython() for p in pythias if p.infoPython().nAccepted()]
    facts = {"tried": tried, "accepted": have, "cross_section_pb": sum(i.sigmaGen() for i in infos) * 1e9,
             "error_pb": sum(i.sigmaErr() ** 2 for i in infos) ** 0.5 * 1e9,
             "version": f"{pythia.settings.parm('Pythia:versionNumber'):.3f}", "seconds": time.monotonic() - started}
    return _join(parts, wanted), facts


def _objects(events, random, number, process, selection, pythia):
    import numpy as np

    from . import detector
    objects, met = detector.reconstruct(events, random, number)
    keep = detector.SELECTIONS[selection](objects, events.n)
    chosen = keep[objects["event"]]
    counts = np.bincount(objects["event"], minlength=events.n)[keep]
    event = {"weight": events.weights[keep], **{k: v[keep] for k, v in met.items()}}
    entries = {k: v[chosen] for k, v in objects.items() if k != "event"}
    return (event, entries, counts, [process.name] * int(keep.sum())), int(keep.sum())


def _jets(events, random, number, process, selection, pythia):
    import numpy as np

    from . import jets
    made = jets.reconstruct(events, random, number, process.name, pythia.particleData.charge)
    per_jet = ("jet_pt", "jet_eta", "jet_phi", "jet_mass")
    per_particle = ("pt", "eta", "phi", "mass", "charge", "pid", "d0", "d0_error", "dz", "dz_error")
    dtypes = {"charge": np.int8, "pid": np.int32}
    which = np.array([j["event"] for j in made], np.int64)
    event = {k: np.array([j[k] for j in made], np.float32) for k in per_jet}
    event["weight"] = events.weights[which]
    event["tried"] = number[which]
    entries = {k: np.concatenate([j[k] for j in made] or [np.empty(0)]).astype(dtypes.get(k, np.float32)) for k in per_particle}
    for columns, name in ((event, "jet_phi"), (entries, "phi")):
        columns[name] = np.clip(columns[name], np.float32(-np.pi), np.float32(np.pi))
    counts = np.array([len(j["pt"]) for j in made], np.int64)
    return (event, entries, counts, [j["process"] for j in made]), len(made)


def _join(parts, wanted):
    """The first `wanted` entries: (per event, per object, counts, process names)."""
    import numpy as np
    event = {k: np.concatenate([p[0][k] for p in parts])[:wanted] for k in parts[0][0]}
    counts = np.concatenate([p[2] for p in parts])[:wanted]
    total = int(counts.sum())
    entries = {k: np.concatenate([p[1][k] for p in parts])[:total] for k in parts[0][1]}
    names = [n for p in parts for n in p[3]][:wanted]
    return event, entries, counts, names
