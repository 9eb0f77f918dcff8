"""bl-tokenize as its users run it: fit, apply, decode, and what it says when something is wrong."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

import beamline

sys.path.append(str(Path(os.environ["BEAMLINE_SOURCE"]) / "tests" / "python"))
from support import program  # noqa: E402


def objects(events, first=0, seed=3):
    """Whole events of objects/1; everything a function of the event's number, so that cuts do not change it."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 22, 10000)[first:first + events]
    n = int(counts.sum())
    rng = np.random.default_rng([seed, first])
    kind = rng.integers(1, 6, n)
    event = np.repeat(np.arange(events), counts)
    pt = rng.exponential(60, n).astype(np.float32) + 15
    pt = pt[np.lexsort((-pt, event))]
    return {
        "event_index": np.arange(first, first + events, dtype=np.uint64),
        "event_id": np.arange(first, first + events, dtype=np.uint64) * 7,
        "weight": np.ones(events),
        **beamline.text_column("process", ["tt"] * events),
        "met": rng.exponential(50, events).astype(np.float32),
        "met_phi": rng.uniform(-3.14, 3.14, events).astype(np.float32),
        "object_offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32),
        "type": kind.astype(np.uint8),
        "charge": np.where(np.isin(kind, (2, 3, 5)), rng.choice([-1, 1], n), 0).astype(np.int8),
        "pt": pt,
        "eta": rng.uniform(-2.5, 2.5, n).astype(np.float32),
        "phi": rng.uniform(-3.14, 3.14, n).astype(np.float32),
        "mass": np.zeros(n, np.float32),
        "btag": ((kind == 1) & (rng.random(n) < 0.4)).astype(np.float32),
    }


def jets(events, seed=4):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 40, events)
    n = int(counts.sum())
    eta = rng.uniform(-1.5, 1.5, events).astype(np.float32)
    return {
        "event_index": np.arange(events, dtype=np.uint64),
        "event_id": np.arange(events, dtype=np.uint64),
        "weight": np.ones(events),
        **beamline.text_column("process", ["q"] * events),
        "jet_eta": eta,
        "jet_phi": np.zeros(events, np.float32),
        "particle_offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32),
        "pt": rng.exponential(10, n).astype(np.float32) + 0.5,
        "eta": np.repeat(eta, counts) + rng.normal(0, 0.15, n).astype(np.float32),
        "phi": rng.normal(0, 0.15, n).astype(np.float32),
    }


class Tokenize(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.events = self.folder / "events.bl"
        self.write(self.events, [objects(700), objects(300, first=700)])

    def write(self, path, batches, schema="objects/1"):
        with beamline.Writer(path, schema, force=True) as out:
            for batch in batches:
                out.write(batch)

    def run_tokenize(self, *arguments, stdin=None, name="bl-tokenize"):
        return subprocess.run([program(name), *map(str, arguments)], cwd=self.folder, stdin=stdin, capture_output=True)

    def good(self, *arguments, **more):
        done = self.run_tokenize(*arguments, **more)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        self.assertEqual(done.stderr, b"")
        return done.stdout.decode() if not done.stdout.startswith(b"BLF1") else done.stdout

    def bad(self, code, part, *arguments):
        done = self.run_tokenize(*arguments)
        message = done.stderr.decode()
        self.assertEqual(done.returncode, code, message)
        self.assertIn(part, message)
        self.assertEqual(message.count("\n"), 1, message)
        self.assertEqual([p for p in os.listdir(self.folder) if p.endswith(".part")], [])

    def test_formula_by_an_independent_calculation(self):
        table = self.good("--fit", "formula", "--in", self.events, "--save", "tok.h5", "--report", "fit.json")
        self.assertIn("perplexity", table)
        edges = json.loads((self.folder / "fit.json").read_text())["tokenizer"]["edges"]
        self.good("--with", "tok.h5", "--in", self.events, "--out", "tokens.bl")
        stream = beamline.read(self.folder / "tokens.bl")
        tokens = beamline.concat(list(stream))
        events = beamline.concat(list(beamline.read(self.events)))
        category = {1: 1, 4: 7}
        expected, kept = [], []
        inner = {q: np.array(edges[q][1:-1]) for q in ("eta", "phi")}
        inner["pt"] = np.array(edges["pt"]["j"][1:-1])
        for e in range(events.events):
            for k, i in enumerate(range(events["object_offsets"][e], events["object_offsets"][e + 1])):
                if k == 18:
                    break
                kind, plus = int(events["type"][i]), events["charge"][i] > 0
                c = category.get(kind, {2: 3, 3: 5, 5: 8}.get(kind, 0) + plus)
                if kind == 1 and events["btag"][i] >= 0.5:
                    c = 2
                place = [int(np.digitize(float(events[q][i]), inner[q])) + 1 for q in ("pt", "eta", "phi")]
                expected.append((c - 1) * 125 + (place[0] - 1) * 25 + (place[1] - 1) * 5 + place[2])
                kept.append(i)
        np.testing.assert_array_equal(tokens["token"], expected)
        np.testing.assert_array_equal(tokens["pt"], events["pt"][kept])
        meta = stream.hello.meta["tokenizer"]
        self.assertEqual((meta["kind"], meta["vocabulary"], meta["mask"], meta["unknown"]), ("formula", 1129, 1128, 0))
        np.testing.assert_array_equal(tokens["n_objects"], np.diff(events["object_offsets"].astype(int)))

    def test_one_digest_by_any_batching_workers_and_transport(self):
        for number, kind in enumerate((["formula"], ["quantile", "--extra", "met,n_jets,ht"], ["kmeans", "--codes", "64"])):
            self.good("--fit", *kind, "--in", self.events, "--save", f"{number}.h5")
            self.write(self.folder / "cut.bl", [objects(0)] + self.pieces(self.events))
            self.good("--fit", *kind, "--in", "cut.bl", "--save", f"{number}b.h5", "--threads", 3)
            self.good("--with", f"{number}.h5", "--in", self.events, "--out", f"{number}.bl")
            self.good("--with", f"{number}b.h5", "--in", "cut.bl", "--out", f"{number}b.bl", "--threads", 3)
            self.assertEqual(beamline.digest(self.folder / f"{number}.bl"), beamline.digest(self.folder / f"{number}b.bl"), kind)
            first, second = (beamline.read(self.folder / f"{number}{x}.bl").hello.meta["tokenizer"]["hash"] for x in ("", "b"))
            self.assertEqual(first, second)
        with open(self.events, "rb") as stdin:
            (self.folder / "piped.bl").write_bytes(self.good("--with", "1.h5", stdin=stdin))
        self.assertEqual(beamline.digest(self.folder / "piped.bl"), beamline.digest(self.folder / "1.bl"))

    def pieces(self, path):
        whole = beamline.concat(list(beamline.read(path)))
        return [beamline.select(whole, np.arange(i, min(i + 173, whole.events))) for i in range(0, whole.events, 173)]

    def test_decoded_events_give_the_same_tokens(self):
        for kind in ("formula", "quantile"):
            self.good("--fit", kind, "--in", self.events, "--save", f"{kind}.h5")
            self.good("--with", f"{kind}.h5", "--in", self.events, "--out", f"{kind}.bl")
            self.good("--with", f"{kind}.h5", "--decode", "--in", f"{kind}.bl", "--out", f"{kind}_back.bl")
            self.good("--with", f"{kind}.h5", "--in", f"{kind}_back.bl", "--out", f"{kind}_again.bl")
            a, b = (beamline.concat(list(beamline.read(self.folder / f"{kind}{x}.bl"))) for x in ("", "_again"))
            np.testing.assert_array_equal(a["token_offsets"], b["token_offsets"])
            for e in range(a.events):
                span = slice(a["token_offsets"][e], a["token_offsets"][e + 1])
                self.assertEqual(sorted(a["token"][span]), sorted(b["token"][span]))
            self.assertEqual(beamline.read(self.folder / f"{kind}_back.bl").schema.id, "objects/1")

    def test_jets(self):
        self.write(self.folder / "jets.bl", [jets(400)], "particles/1")
        self.good("--fit", "kmeans", "--codes", 128, "--weights", "sqrt-pt", "--in", "jets.bl", "--save", "jets.h5", "--report", "jets.json")
        report = json.loads((self.folder / "jets.json").read_text())
        self.assertEqual(report["codes"]["used"], 128)
        self.assertEqual(report["tokenizer"]["max_particles"], 128)
        self.assertLess(report["error"]["eta"]["std"], 0.1)
        self.assertAlmostEqual(sum(c for _, c in report["counts"]), report["particles"])
        self.good("--with", "jets.h5", "--in", "jets.bl", "--out", "tokens.bl")
        self.good("--with", "jets.h5", "--decode", "--in", "tokens.bl", "--out", "back.bl")
        self.assertEqual(beamline.read(self.folder / "back.bl").schema.id, "particles/1")
        self.bad(3, "tokenizes particles/1, and", "--with", "jets.h5", "--in", self.events, "--out", "no.bl")
        self.bad(2, "always taken relative", "--fit", "quantile", "--phi", "absolute", "--in", "jets.bl", "--save", "no.h5")
        self.bad(2, "need whole events", "--fit", "quantile", "--extra", "ht", "--in", "jets.bl", "--save", "no.h5")

    def test_the_report_of_applying_counts_what_happened(self):
        self.good("--fit", "formula", "--pt-edges", "20,50,100,200", "--max-objects", 10, "--in", self.events, "--save", "tok.h5")
        self.good("--with", "tok.h5", "--in", self.events, "--out", "tokens.bl", "--report", "apply.json")
        report = json.loads((self.folder / "apply.json").read_text())
        events = beamline.concat(list(beamline.read(self.events)))
        counts = np.diff(events["object_offsets"].astype(int))
        self.assertEqual(report["truncated"], {"events": int((counts > 10).sum()), "particles": int(np.maximum(counts - 10, 0).sum())})
        tokens = beamline.concat(list(beamline.read(self.folder / "tokens.bl")))
        self.assertEqual(report["outside"]["pt"], {"below": int((tokens["pt"] < 20).sum()), "above": int((tokens["pt"] > 200).sum())})
        ids, found = np.unique(tokens["token"], return_counts=True)
        self.assertEqual(report["counts"], [[int(i), int(n)] for i, n in zip(ids, found)])
        p = found / found.sum()
        self.assertAlmostEqual(report["entropy"]["unigram"], float(-(p * np.log(p)).sum()), places=9)
        self.assertAlmostEqual(report["codes"]["perplexity"], float(np.exp(-(p * np.log(p)).sum())), places=6)

    def test_what_is_wrong_is_said(self):
        self.bad(2, "choose one", "--in", self.events)
        self.bad(2, "choose one", "--fit", "formula", "--with", "a.h5", "--in", self.events)
        self.bad(2, "--fit needs --save", "--fit", "formula", "--in", self.events)
        self.bad(2, "--fit", "--fit", "guess", "--save", "a.h5", "--in", self.events)
        self.bad(2, "bin edges must rise", "--fit", "formula", "--pt-edges", "5,4", "--save", "a.h5", "--in", self.events)
        self.bad(2, "'x' is not a number", "--fit", "formula", "--pt-edges", "5,x", "--save", "a.h5", "--in", self.events)
        self.bad(2, "no category of particles is called 'q'", "--fit", "formula", "--categories", "j,q", "--save", "a.h5", "--in", self.events)
        self.bad(2, "no event-level token is called 'st'", "--fit", "formula", "--extra", "st", "--save", "a.h5", "--in", self.events)
        self.bad(3, "is not one of those to tokenize (j, b)", "--fit", "quantile", "--categories", "j,b", "--save", "a.h5", "--in", self.events)
        self.write(self.folder / "few.bl", [objects(2)])
        self.bad(3, "k-means codes; give more events or ask for fewer codes", "--fit", "kmeans", "--save", "a.h5", "--in", "few.bl")
        self.write(self.folder / "none.bl", [])
        self.bad(3, "there is no event to fit a tokenizer on", "--fit", "formula", "--save", "a.h5", "--in", "none.bl")
        self.assertFalse((self.folder / "a.h5").exists())
        self.good("--fit", "formula", "--in", self.events, "--save", "tok.h5")
        self.bad(4, "tok.h5", "--fit", "formula", "--in", self.events, "--save", "tok.h5")
        self.bad(2, "options of the fit have no meaning", "--with", "tok.h5", "--extra", "ht", "--in", self.events, "--out", "b.bl")
        self.bad(2, "--save belongs to --fit", "--with", "tok.h5", "--save", "b.h5", "--in", self.events, "--out", "b.bl")
        self.good("--with", "tok.h5", "--in", self.events, "--out", "tokens.bl")
        self.bad(2, "holds tokens already", "--with", "tok.h5", "--in", "tokens.bl", "--out", "b.bl")
        self.bad(2, "holds tokens already", "--fit", "formula", "--in", "tokens.bl", "--save", "b.h5")
        self.bad(2, "--decode reads tokens/1 or tokens/2", "--with", "tok.h5", "--decode", "--in", self.events, "--out", "b.bl")
        self.good("--fit", "quantile", "--in", self.events, "--save", "other.h5")
        self.bad(3, "decode with the tokenizer that made them", "--with", "other.h5", "--decode", "--in", "tokens.bl", "--out", "b.bl")
        raw = (self.folder / "tok.h5").read_bytes()
        (self.folder / "cut.h5").write_bytes(raw[:len(raw) // 2])
        self.bad(3, "cut.h5", "--with", "cut.h5", "--in", self.events, "--out", "b.bl")
        (self.folder / "text.h5").write_text("not HDF5")
        self.bad(3, "text.h5", "--with", "text.h5", "--in", self.events, "--out", "b.bl")
        self.assertFalse((self.folder / "b.bl").exists())

    def test_unknown_categories_by_choice(self):
        self.good("--fit", "quantile", "--categories", "j,b", "--unknown", "drop", "--in", self.events, "--save", "jets.h5")
        self.bad(3, "is not one of the tokenizer's (j, b)", "--with", "jets.h5", "--in", self.events, "--out", "b.bl")
        self.good("--with", "jets.h5", "--unknown", "drop", "--in", self.events, "--out", "drop.bl")
        self.good("--with", "jets.h5", "--unknown", "token", "--in", self.events, "--out", "token.bl")
        drop, token = (beamline.concat(list(beamline.read(self.folder / f"{x}.bl"))) for x in ("drop", "token"))
        self.assertTrue(np.isin(drop["category"], (1, 2)).all())
        self.assertTrue((drop["token"] > 0).all())
        np.testing.assert_array_equal(token["token"] == 0, ~np.isin(token["category"], (1, 2)))

    def test_dark_machines_by_the_commands_of_the_manual(self):
        data = Path(os.environ.get("BEAMLINE_DATA", Path(os.environ["BEAMLINE_SOURCE"]).parent / "shared" / "data"))
        csv = data / "darkmachines" / "background_chan1_7.79_reduced.csv"
        if not csv.exists():
            self.skipTest(f"{csv} is not here")
        def pipe(first, then):
            with subprocess.Popen([program(first[0]), *map(str, first[1:])], stdout=subprocess.PIPE) as process:
                done = subprocess.run([program(then[0]), *map(str, then[1:])], cwd=self.folder, stdin=process.stdout, capture_output=True, text=True)
                process.stdout.close()
            self.assertEqual((process.returncode, done.returncode), (0, 0), done.stderr)
            return done.stdout
        table = pipe(["bl-preprocess", "--in", csv], ["bl-tokenize", "--fit", "formula", "--save", "tok.h5"])
        self.assertRegex(table, r"events +1000\n")
        pipe(["bl-preprocess", "--in", csv], ["bl-tokenize", "--with", "tok.h5", "--out", "tokens.bl"])
        self.assertEqual(beamline.concat(list(beamline.read(self.folder / "tokens.bl"))).events, 1000)


if __name__ == "__main__":
    unittest.main()
