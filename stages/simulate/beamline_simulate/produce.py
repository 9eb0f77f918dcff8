"""The stream of a run: chunks made by several processes, put together in an order that does not depend on them."""
import concurrent.futures
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import numpy as np

import beamline

from . import worker
from .errors import Failed
from .processes import EVENTS, JETS

BATCH = {"events": 4096, "jets": 512}  # about 1 MiB
SCHEMA = {"events": "objects/1", "jets": "particles/1"}
DETECTOR = "parametric detector 1, docs/samples.md"
_ID_STEP = 1_000_000_000  # event id = number of the process * this + number of the event


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


def columns(mode, picked, first):
    """Columns of a batch from [(process, chunk, rows of the chunk, numbers of those events)]; the first has index `first`."""
    event = {k: np.concatenate([chunk[0][k][rows] for _, chunk, rows, _ in picked]) for k in picked[0][1][0]}
    counts = np.concatenate([chunk[2][rows] for _, chunk, rows, _ in picked])
    starts = [np.concatenate([[0], np.cumsum(chunk[2])]) for _, chunk, _, _ in picked]
    entries = {}
    for name in picked[0][1][1]:
        pieces = []
        for (_, chunk, rows, _), start in zip(picked, starts):
            values, n = chunk[1][name], chunk[2][rows]
            ends = np.cumsum(n)
            pieces.append(values[np.arange(ends[-1]) + np.repeat(start[rows] - ends + n, n)])
        entries[name] = np.concatenate(pieces)
    names = [chunk[3][r] for _, chunk, rows, _ in picked for r in rows]
    label = np.concatenate([np.full(len(rows), entry.label, np.int32) for entry, _, rows, _ in picked])
    ids = np.concatenate([entry.number * _ID_STEP + numbers for entry, _, _, numbers in picked])
    dim = "object" if mode == "events" else "particle"
    return {
        "event_index": np.arange(first, first + len(counts), dtype=np.uint64),
        "event_id": ids.astype(np.uint64),
        "weight": event.pop("weight").astype(np.float64),
        **beamline.text_column("process", names),
        "label": label,
        **event,
        dim + "_offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32),
        **entries,
    }


def check_output(out, force):
    """What can be refused is refused before minutes of work."""
    if out == "-":
        if os.isatty(1):
            raise beamline.UsageError("the output is binary and standard output is a terminal: give --out FILE, or pipe it into the next stage")
    elif "://" in out:
        raise beamline.UsageError(f"--out {out}: bl-simulate writes to files and pipes; pipe it into a stage that writes to a socket")
    elif os.path.exists(out) and not force:
        raise beamline.WriteError(f"'{out}' exists: give --force to replace it, or another name")
    elif not os.access(os.path.dirname(os.path.abspath(out)), os.W_OK):
        raise beamline.WriteError(f"cannot create '{out}': its folder does not exist or may not be written")


def run(options, requests, history, progress):
    """requests: [(name, events)]. Writes the stream to options.out."""
    check_output(options.out, options.force)
    table = EVENTS if options.mode == "events" else JETS
    names, counts = [n for n, _ in requests], [n for _, n in requests]
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
                                 "efficiency": _round(facts[name]["accepted"] / facts[name]["tried"])} for name, n in requests},
        }
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
                    picked.append((table[names[p]], data, local[here] - c * worker.CHUNK, local[here]))
                    places.append(here)
                batch = schema.batch(columns(options.mode, picked, first))
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


class Progress:
    """One line redrawn on a terminal, nothing otherwise; the same numbers as JSON lines to a file."""

    def __init__(self, name, metrics, quiet):
        self._name, self._quiet = name, quiet or not sys.stderr.isatty()
        self._metrics = None
        if metrics:
            try:
                self._metrics = open(metrics, "w")
            except OSError as e:
                raise beamline.WriteError(f"cannot create '{metrics}': {e.strerror}") from None
        self._start, self._last, self._total = time.monotonic(), 0.0, 0

    def total(self, events):
        self._total = events

    def show(self, events):
        now = time.monotonic() - self._start
        if now - self._last < 0.5 or not events:
            return
        self._last = now
        rate = events / now
        left = (self._total - events) / rate
        self._metric({"t": round(now, 2), "events": events, "rate": round(rate, 1)})
        if not self._quiet:
            print(f"\r\033[K{self._name}: {events}/{self._total} events, {rate:.0f}/s, {int(left) // 60}:{int(left) % 60:02d} left", end="", file=sys.stderr, flush=True)

    def finish(self, events):
        self._metric({"done": True, "events": events, "seconds": round(time.monotonic() - self._start, 2)})
        self.clear()

    def clear(self):
        if not self._quiet:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _metric(self, line):
        if self._metrics:
            try:
                print(json.dumps(line), file=self._metrics, flush=True)
            except OSError as e:
                raise beamline.WriteError(f"cannot write metrics: {e.strerror}") from None
