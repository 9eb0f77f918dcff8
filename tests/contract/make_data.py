#!/usr/bin/env python3
"""The small streams in tests/contract/data: eight batches of six events of each schema, and streams that a program must
refuse. They are committed, so that files written by an earlier release stay readable; run this only for a new schema.

usage: make_data.py BIN_DIR   (needs numpy and msgpack: Debian's python3-numpy, python3-msgpack)
"""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

here = Path(__file__).resolve().parent
sys.path.insert(0, str(here.parents[1] / "python"))
import beamline  # noqa: E402
from beamline import stream as wire  # noqa: E402

BATCHES, EVENTS = 8, 6
rng = np.random.default_rng(20250917)


def common(b, name, process):
    first = b * EVENTS
    return {
        "event_index": np.arange(first, first + EVENTS, dtype=np.uint64),
        "event_id": np.arange(first, first + EVENTS, dtype=np.uint64) * np.uint64(7) + np.uint64(1000),
        "weight": np.ones(EVENTS),
        "label": np.array([(first + i) % 2 for i in range(EVENTS)], dtype=np.int32),
        **beamline.text_column("process", process),
    }


def ragged(dim, counts):
    return {f"{dim}_offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)}


def falling(counts, low, high):
    return np.concatenate([np.sort(rng.uniform(low, high, n))[::-1] for n in counts]).astype(np.float32)


def objects(b):
    counts = rng.integers(3, 8, EVENTS)
    n = int(counts.sum())
    kind = rng.choice([1, 1, 1, 2, 3, 4], n).astype(np.uint8)
    lepton = (kind == 2) | (kind == 3)
    return {
        **common(b, "objects", ["ttbar" if i % 2 == 0 else "four_tops" for i in range(EVENTS)]),
        "met": rng.uniform(10, 300, EVENTS).astype(np.float32),
        "met_phi": rng.uniform(-3.1, 3.1, EVENTS).astype(np.float32),
        **ragged("object", counts),
        "type": kind,
        "charge": np.where(lepton, rng.choice([-1, 1], n), 0).astype(np.int8),
        "pt": falling(counts, 20, 400),
        "eta": rng.uniform(-2.4, 2.4, n).astype(np.float32),
        "phi": rng.uniform(-3.1, 3.1, n).astype(np.float32),
        "mass": np.where(kind == 1, rng.uniform(2, 30, n), 0).astype(np.float32),
        "btag": np.where(kind == 1, rng.integers(0, 2, n), 0).astype(np.float32),
    }


def particles(b):
    counts = rng.integers(5, 15, EVENTS)
    n = int(counts.sum())
    return {
        **common(b, "particles", ["QCD" if i % 2 == 0 else "Tbqq" for i in range(EVENTS)]),
        "jet_pt": rng.uniform(500, 1000, EVENTS).astype(np.float32),
        "jet_eta": rng.uniform(-2, 2, EVENTS).astype(np.float32),
        "jet_phi": rng.uniform(-3.1, 3.1, EVENTS).astype(np.float32),
        "jet_mass": rng.uniform(20, 180, EVENTS).astype(np.float32),
        **ragged("particle", counts),
        "pt": falling(counts, 1, 200),
        "eta": rng.uniform(-2.4, 2.4, n).astype(np.float32),
        "phi": rng.uniform(-3.1, 3.1, n).astype(np.float32),
        "mass": np.full(n, 0.1396, dtype=np.float32),
        "charge": rng.choice([-1, 0, 1], n).astype(np.int8),
        "pid": np.full(n, 211, dtype=np.int32),
    }


def scores(b):
    counts = rng.integers(3, 8, EVENTS)
    label = np.array([(b * EVENTS + i) % 2 for i in range(EVENTS)])
    return {
        **common(b, "scores", ["ttbar" if i % 2 == 0 else "four_tops" for i in range(EVENTS)]),
        "n_objects": rng.integers(3, 12, EVENTS).astype(np.float32),
        "ht": rng.uniform(100, 2000, EVENTS).astype(np.float32),
        "met": rng.uniform(10, 300, EVENTS).astype(np.float32),
        **ragged("token", counts),
        "token_logp": -rng.exponential(2, int(counts.sum())).astype(np.float32),
        "score_mean_logp": (rng.normal(2, 1, EVENTS) + label).astype(np.float32),
        "score_sum": (rng.normal(20, 8, EVENTS) + 6 * label).astype(np.float32),
    }


def tagger(b):
    """A tagger's probabilities of two classes, with the metadata that bl-evaluate classification reads."""
    classes = ["top", "qcd"]
    label = np.array([(b * EVENTS + i) % 2 for i in range(EVENTS)], dtype=np.int32)
    logit = rng.normal(0, 1, (EVENTS, 2))
    logit[np.arange(EVENTS), label] += 1.5
    p = np.exp(logit) / np.exp(logit).sum(1, keepdims=True)
    out = {**common(b, "scores", [classes[i] for i in label]), "label": label, "token_offsets": np.zeros(EVENTS + 1, dtype=np.uint32)}
    for i, name in enumerate(classes):
        out |= {f"logit_{name}": logit[:, i].astype(np.float32), f"score_{name}": p[:, i].astype(np.float32)}
    return out


def learning_curve(path):
    """What bl-finetune --learning-curve reports: three ways of training, three seeds. Its own generator: no stream changes."""
    own = np.random.default_rng(20250917)
    points = []
    for mode, shift in (("full", 0.0), ("scratch", 0.06), ("jet-variables", 0.03)):
        for n in (100, 1000, 10000):
            for seed in (1, 2, 3):
                a = round(0.95 - shift - 0.25 * (n / 100) ** -0.5 + 0.004 * float(own.normal()), 4)
                points.append({"mode": mode, "jets": n, "stopping_jets": n // 5, "seed": seed, "accuracy": round(a - 0.05, 4), "auc": a,
                               "rejection_30": None if n == 100 else round(1 / (1 - a) ** 1.5, 2), "rejection_50": round(1 / (1 - a), 2),
                               "epochs": 12, "seconds": 1.5})
    path.write_text(json.dumps({"format": "beamline.learning_curve/1", "classes": ["top", "qcd"], "test_jets": 5000, "points": points}, indent=1))


def write(name, make, schema=None, meta=None):
    history = [{"stage": "make_data", "version": "1", "options": {}, "seed": 20250917, "inputs": [], "host": "none"}]
    with beamline.Writer(str(here / "data" / f"{name}.bl"), schema or f"{name}/1", meta=meta or {}, history=history, force=True) as out:
        for b in range(BATCHES):
            out.write(make(b))


def bare(path, schema, schema_hash):
    """HELLO and END only, of a schema that no program knows."""
    def frame(kind, seq, body, schema=0):
        head = wire._HEADER.pack(wire.MAGIC, wire.VERSION, kind, 0, 1, seq, len(body), beamline.hash64(body), schema, 0, 0)
        return head + beamline.hash64(head).to_bytes(8, "little") + body + b"\0" * (-len(body) % 64)

    hello = wire.Hello(schema, schema_hash).body()
    end = __import__("msgpack").packb({"batches": 0, "events": 0, "digest": 0})
    path.write_bytes(frame(wire.HELLO, 0, hello, schema_hash) + frame(wire.END, 0, end))


def without_host(path):
    """The same stream with no trace in its history of the machine that made it."""
    with beamline.read(str(path)) as stream:
        hello, batches = stream.hello, list(stream)
    history = [{**entry, "host": "none"} for entry in hello.history]
    with beamline.Writer(str(path), hello.schema, meta=hello.meta, history=history, force=True) as out:
        for batch in batches:
            out.write(batch)


def main():
    programs, data = Path(sys.argv[1]).resolve(), here / "data"
    data.mkdir(exist_ok=True)
    for name, make in (("objects", objects), ("particles", particles), ("scores", scores)):
        write(name, make)
    learning_curve(data / "curve.json")
    write("tagger", tagger, "scores/1", {"tagger": {"classes": ["top", "qcd"], "model": "none"}})
    run = lambda *words: subprocess.run([str(w) for w in words], check=True, cwd=data, stdout=subprocess.DEVNULL)  # noqa: E731
    run(programs / "bl-tokenize", "--fit", "formula", "--in", "objects.bl", "--save", "formula.h5", "--force")
    run(programs / "bl-tokenize", "--with", "formula.h5", "--in", "objects.bl", "--out", "tokens.bl", "--force")
    run(programs / "bl-mask", "--mode", "one", "--in", "tokens.bl", "--out", "masked.bl", "--force")
    run(programs / "bl-tokenize", "--fit", "binning", "--in", "particles.bl", "--save", "binning.h5", "--force")
    run(programs / "bl-tokenize", "--with", "binning.h5", "--in", "particles.bl", "--out", "jet_tokens.bl", "--force")
    run(programs / "bl-train", "--objective", "next-token", "--in", "jet_tokens.bl", "--save", "gpt.h5", "--epochs", "10", "--batch", "2", "--dim", "32",
        "--layers", "1", "--metrics", "train.jsonl", "--force")
    (data / "gpt.h5").unlink()
    for name in ("formula", "binning"):
        (data / f"{name}.h5").unlink()  # the tests fit it again
    for name in ("tokens", "jet_tokens", "masked"):
        without_host(data / f"{name}.bl")
    for name in ("objects", "particles", "tokens", "masked", "scores"):
        bare(data / f"{name}.newer.bl", f"{name}/99", 0x1234)
    bare(data / "jet_tokens.newer.bl", "tokens/99", 0x1234)
    bare(data / "tagger.newer.bl", "scores/99", 0x1234)
    bare(data / "unknown.bl", "weather/1", 0x1234)
    for path in sorted(data.iterdir()):
        print(f"{path.stat().st_size:8} {path.name}")


if __name__ == "__main__":
    main()
