"""The stream of a run: chunks made by several processes, put together in an order that does not depend on them."""
import concurrent.futures
import multiprocessing
from concurrent.futures.process import BrokenProcessPool

import numpy as np

import beamline
from beamline_stage.run import check_output

from . import worker
from .errors import Failed
from .processes import EVENTS, JETS

BATCH = {"events": 4096, "jets": 512}  # about 1 MiB
SCHEMA = {"events": "objects/1", "jets": "particles/1"}
DETECTOR = "parametric detector 1, docs/samples.md"
_ID_STEP = 1_000_000_000  # event id = number of the process * this + number of the event or jet
# with labels: number of the class * _CLASS_STEP + number of the chunk * _CHUNK_STEP + number of the event tried in it
_CLASS_STEP, _CHUNK_STEP = 10**12, 10**6
_SAMPLE_STEP = 10**15  # --sample


def plan(counts):
    """counts: events of each process. The order in which they leave, evenly mixed: arrays (process, number in it)."""
    process = np.concatenate([np.full(n, p) for p, n in enumerate(counts)])
    number = np.concatenate([np.arange(n) for n in counts])
    place = np.concatenate([(np.arange(n) + 0.5) / n for n in counts])
    order = np.lexsort((process, place))
    return process[order], number[order]


class Chunks:
    """Chunks by (process, chunk number), computed ahead by worker processes in the order of need, few at a time."""

    def __init__(self, options, names, counts, process, number, progress):
        self._options, self._progress, self._names, self._counts = options, progress, names, counts
        keys = process.astype(np.int64) * (1 << 40) + number // worker.CHUNK
        _, first = np.unique(keys, return_index=True)
        self._todo = [(int(process[i]), int(number[i]) // worker.CHUNK) for i in np.sort(first)][::-1]
        self._running, self._ready = {}, {}
        context = multiprocessing.get_context("spawn")
        self.counter = context.Value("Q", 0)
        self._pool = concurrent.futures.ProcessPoolExecutor(options.threads, context, worker.start, (self.counter,))
        self._ahead = options.threads + len(counts) + 1

    def _submit(self, needed=None):
        """Keeps the workers busy without running far ahead; `needed` is started in any case."""
        while self._todo and (len(self._running) + len(self._ready) < self._ahead or needed in self._todo):
            p, c = self._todo.pop()
            wanted = min(worker.CHUNK, self._counts[p] - c * worker.CHUNK)
            o = self._options
            self._running[p, c] = self._pool.submit(worker.generate, o.mode, self._names[p], o.seed, c, wanted, o.selection, o.mpi)

    def get(self, p, c):
        self._submit(needed=(p, c))
        while (p, c) not in self._ready:
            future = self._running[p, c]
            done, _ = concurrent.futures.wait([future], timeout=0.2)
            self._progress.show(self.counter.value)
            if done:
                try:
                    self._ready[p, c] = future.result()
                except BrokenProcessPool:
                    raise beamline.Error("a worker process died: lower --threads if memory ran out") from None
                except Failed as e:
                    raise beamline.Error(str(e)) from None
                del self._running[p, c]
        return self._ready[p, c]

    def drop(self, p, c):
        self._ready.pop((p, c), None)
        self._submit()

    def close(self):
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def columns(mode, picked, first, sample=0):
    """Columns of a batch from [(process, label or None, chunk, rows of the chunk, numbers of those events)]; the first has
    index `first`. With a label, the jets of one event share its id."""
    event = {k: np.concatenate([chunk[0][k][rows] for _, _, chunk, rows, _ in picked]) for k in picked[0][2][0]}
    counts = np.concatenate([chunk[2][rows] for _, _, chunk, rows, _ in picked])
    starts = [np.concatenate([[0], np.cumsum(chunk[2])]) for _, _, chunk, _, _ in picked]
    entries = {}
    for name in picked[0][2][1]:
        pieces = []
        for (_, _, chunk, rows, _), start in zip(picked, starts):
            values, n = chunk[1][name], chunk[2][rows]
            ends = np.cumsum(n)
            pieces.append(values[np.arange(ends[-1]) + np.repeat(start[rows] - ends + n, n)])
        entries[name] = np.concatenate(pieces)
    names = [label.name if label else chunk[3][r] for _, label, chunk, rows, _ in picked for r in rows]
    number = np.concatenate([np.full(len(rows), label.number if label else entry.label, np.int32) for entry, label, _, rows, _ in picked])
    tried = event.pop("tried", None)
    ids = np.concatenate([entry.number * _ID_STEP + numbers for entry, _, _, _, numbers in picked])
    if picked[0][1]:
        base = np.concatenate([entry.number * _CLASS_STEP + numbers // worker.CHUNK * _CHUNK_STEP for entry, _, _, _, numbers in picked])
        ids = base + tried
    dim = "object" if mode == "events" else "particle"
    return {
        "event_index": np.arange(first, first + len(counts), dtype=np.uint64),
        "event_id": ids.astype(np.uint64) + np.uint64(sample * _SAMPLE_STEP),
        "weight": event.pop("weight").astype(np.float64),
        **beamline.text_column("process", names),
        "label": number,
        **event,
        dim + "_offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32),
        **entries,
    }


def run(options, requests, history, progress):
    """requests: see command.Request. Writes the stream to options.out."""
    check_output("bl-simulate", options.out, options.force)
    table = EVENTS if options.mode == "events" else JETS
    names, counts = [r.process for r in requests], [r.events for r in requests]
    schema = beamline.load_schema(SCHEMA[options.mode])
    process, number = plan(counts)
    progress.total(len(process))
    chunks = Chunks(options, names, counts, process, number, progress)
    try:
        facts = {}
        for p in range(len(names)):
            facts[names[p]] = chunks.get(p, 0)[1]
        meta = {
            "generator": {"name": "Pythia", "version": next(iter(facts.values()))["version"], "energy_gev": 13000, "tune": "Monash 2013",
                          "multiparton_interactions": options.mpi},
            "detector": DETECTOR, "selection": options.selection,
            # measured on each process's first chunk, to some per cent
            "processes": {name: {"number": table[name].number, "label": table[name].label, "events": n, "what": table[name].doc,
                                 "cross_section_pb": _round(facts[name]["cross_section_pb"]), "cross_section_error_pb": _round(facts[name]["error_pb"]),
                                 "efficiency": _round(facts[name]["accepted"] / facts[name]["tried"])} for name, n in zip(names, counts)},
        }
        labels = {str(r.label.number): r.label.name for r in requests if r.label}
        if labels:
            meta["labels"] = labels
        with beamline.Writer(options.out, schema, meta, history, force=options.force) as out:
            size = BATCH[options.mode]
            last = {(int(p), int(c)): i for i, (p, c) in enumerate(zip(process, number // worker.CHUNK))}  # where each chunk is needed last
            for first in range(0, len(process), size):
                part, local = process[first:first + size], number[first:first + size]
                chunk = local // worker.CHUNK
                picked, places = [], []
                for p, c in sorted(set(zip(part.tolist(), chunk.tolist()))):
                    here = np.flatnonzero((part == p) & (chunk == c))
                    data = chunks.get(p, c)[0]
                    picked.append((table[names[p]], requests[p].label, data, local[here] - c * worker.CHUNK, local[here]))
                    places.append(here)
                batch = schema.batch(columns(options.mode, picked, first, options.sample))
                index = batch["event_index"].copy()
                batch = beamline.select(batch, np.argsort(np.concatenate(places)))
                batch["event_index"] = index
                out.write(batch)
                for key in [k for k, i in last.items() if i < first + size]:
                    chunks.drop(*key)
                    del last[key]
                if not out.wanted:
                    break
        progress.finish(len(process))
    finally:
        chunks.close()


def _round(x):
    return float(f"{x:.4g}")

