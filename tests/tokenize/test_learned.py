"""bl-tokenize --fit vqvae, vqvae-conditional and binning as their users run them."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

import beamline

SOURCE = Path(os.environ["BEAMLINE_SOURCE"])
sys.path.append(str(SOURCE / "tests" / "python"))
from support import program  # noqa: E402

KINDS = ("vqvae", "vqvae-conditional")


def fit(kind, **more):
    """The command line of a small fit; more: options that differ."""
    options = {"codes": 64, "dim": 16, "heads": 2, "layers": 1, "epochs": 2, **more}
    return ["--fit", kind, *(x for key, value in options.items() for x in ("--" + key.replace("_", "-"), value))]


def jets(events, seed=4, far=0.0):
    """Jets with an axis; every seventh is empty. far: fraction of constituents 1.0 from the axis."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 30, events)
    counts[::7] = 0
    n = int(counts.sum())
    eta = rng.uniform(-1.5, 1.5, events).astype(np.float32)
    away = rng.normal(0, 0.15, n)
    away[rng.random(n) < far] = 1.0
    return {
        "event_index": np.arange(events, dtype=np.uint64),
        "event_id": np.arange(events, dtype=np.uint64),
        "weight": np.ones(events),
        **beamline.text_column("process", ["q"] * events),
        "jet_eta": eta,
        "jet_phi": np.zeros(events, np.float32),
        "particle_offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32),
        "pt": rng.exponential(10, n).astype(np.float32) + 0.5,
        "eta": np.repeat(eta, counts) + away.astype(np.float32),
        "phi": rng.normal(0, 0.15, n).astype(np.float32),
    }


def masses(batch):
    """Of each jet, from massless constituents."""
    pt, eta, phi = (batch[c].astype(float) for c in ("pt", "eta", "phi"))
    offsets = batch["particle_offsets"].astype(int)
    total = [np.add.reduceat(np.append(x, 0), offsets[:-1]) for x in (pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta))]
    return np.sqrt(np.maximum(total[0] ** 2 - total[1] ** 2 - total[2] ** 2 - total[3] ** 2, 0))


class Learned(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.jets = self.folder / "jets.bl"
        self.write(self.jets, [jets(400)])

    def write(self, path, batches, schema="particles/1"):
        with beamline.Writer(path, schema, force=True) as out:
            for batch in batches:
                out.write(batch)

    def run_tokenize(self, *arguments):
        return subprocess.run([program("bl-tokenize"), *map(str, arguments)], cwd=self.folder, capture_output=True, text=True)

    def good(self, *arguments):
        done = self.run_tokenize(*arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def bad(self, code, part, *arguments):
        done = self.run_tokenize(*arguments)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertIn(part, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertEqual([p for p in os.listdir(self.folder) if p.endswith(".part")], [])

    def hash_of(self, name, source=None):
        self.good("--with", name, "--in", source or self.jets, "--out", "probe.bl", "--force")
        return beamline.read(self.folder / "probe.bl").hello.meta["tokenizer"]["hash"]

    def test_one_hash_by_any_number_of_threads_batching_and_order(self):
        whole = beamline.concat(list(beamline.read(self.jets)))
        turned = [beamline.select(whole, np.arange(i, min(i + 77, 400))[::-1]) for i in reversed(range(0, 400, 77))]
        self.write(self.folder / "turned.bl", turned)
        for kind in KINDS:
            hashes, digests = set(), set()
            for threads, source in ((1, "jets.bl"), (2, "jets.bl"), (3, "turned.bl")):
                self.good(*fit(kind), "--in", source, "--save", f"{threads}.h5", "--threads", threads, "--force")
                hashes.add(self.hash_of(f"{threads}.h5"))
                self.good("--with", f"{threads}.h5", "--in", source, "--out", "tokens.bl", "--threads", threads, "--force")
                self.good("--with", f"{threads}.h5", "--decode", "--in", "tokens.bl", "--out", "back.bl", "--threads", threads, "--force")
                digests.add((str(beamline.digest(self.folder / "tokens.bl")), str(beamline.digest(self.folder / "back.bl"))))
            self.assertEqual((len(hashes), len(digests)), (1, 1), kind)
            self.good(*fit(kind), "--in", "jets.bl", "--save", "other.h5", "--seed", 2, "--force")
            self.assertNotIn(self.hash_of("other.h5"), hashes)

    def test_real_jets_come_back_better_than_by_as_many_means(self):
        sample = SOURCE / "samples" / "jets.bl"
        real = beamline.concat(list(beamline.read(sample)))
        spread, error = {}, {}
        for name, options in (("means", ["--fit", "kmeans", "--codes", 64]),
                              ("network", [*fit("vqvae-conditional", dim=32, layers=2, heads=4, batch=16, lr=6e-3, epochs=5), "--threads", 2])):
            self.good(*options, "--in", sample, "--save", f"{name}.h5", "--report", f"{name}.json")
            self.good("--with", f"{name}.h5", "--in", sample, "--out", f"{name}.tokens.bl")
            self.good("--with", f"{name}.h5", "--decode", "--in", f"{name}.tokens.bl", "--out", f"{name}.back.bl")
            back = beamline.concat(list(beamline.read(self.folder / f"{name}.back.bl")))
            np.testing.assert_array_equal(back["event_index"], real["event_index"])
            np.testing.assert_array_equal(back["jet_eta"], real["jet_eta"])
            np.testing.assert_allclose(back["jet_mass"], masses(back), rtol=1e-3, atol=0.1)
            spread[name] = np.std(back["jet_mass"] - masses(real))
            report = json.loads((self.folder / f"{name}.json").read_text())
            self.assertEqual(report["codes"]["all"], 64)
            error[name] = {k: v["quantile68"] for k, v in report["error"].items()}
        # in the units of the network's features; 2/3 of a distance squared
        total = {n: e["pt_relative"] ** 2 + 9 * (e["eta"] ** 2 + e["phi"] ** 2) for n, e in error.items()}
        self.assertLess(total["network"], 0.85 * total["means"], error)
        self.assertLess(spread["network"], 0.93 * spread["means"])

    def test_stopped_and_resumed_is_as_never_stopped(self):
        slow = fit("vqvae-conditional", epochs=25)
        self.good(*slow, "--in", "jets.bl", "--save", "whole.h5")
        command = [program("bl-tokenize"), *map(str, slow), "--in", "jets.bl", "--save", "tok.h5", "--threads", "2", "--metrics", "run.jsonl"]
        with subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            until = time.monotonic() + 60
            metrics = self.folder / "run.jsonl"
            while time.monotonic() < until and not (metrics.exists() and '"reconstruction"' in metrics.read_text()):
                time.sleep(0.005)
            process.send_signal(signal.SIGTERM)
            errors = process.communicate()[1]
        self.assertEqual(process.returncode, 143, errors)
        self.assertIn("go on with --resume tok.h5.part.h5", errors)
        self.assertFalse((self.folder / "tok.h5").exists())
        self.bad(2, "started with epochs 25, now it is 26", *fit("vqvae-conditional", epochs=26), "--in", "jets.bl", "--save", "tok.h5",
                 "--resume", "tok.h5.part.h5")
        self.write(self.folder / "others.bl", [jets(400, seed=5)])
        self.bad(3, "started on other jets", *slow, "--in", "others.bl", "--save", "tok.h5", "--resume", "tok.h5.part.h5")
        self.bad(3, "'whole.h5'", *slow, "--in", "jets.bl", "--save", "tok.h5", "--resume", "whole.h5")
        self.good(*slow, "--in", "jets.bl", "--save", "tok.h5", "--resume", "tok.h5.part.h5")
        self.assertEqual(self.hash_of("tok.h5"), self.hash_of("whole.h5"))
        self.assertFalse((self.folder / "tok.h5.part.h5").exists())
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        step = next(x for x in lines if "reconstruction" in x)
        self.assertLessEqual({"step", "loss", "quantisation", "codes_used", "perplexity", "replaced", "rate"}, set(step))
        self.assertLess(step["codes_used"], 65)

    def test_what_is_too_far_out_is_counted(self):
        self.write(self.folder / "far.bl", [jets(300, far=0.05)])
        far = int((np.abs(np.concatenate([b["eta"] - np.repeat(b["jet_eta"], np.diff(b["particle_offsets"].astype(int)))
                                          for b in beamline.read(self.folder / "far.bl")])) > 0.8).sum())
        self.assertGreater(far, 50)
        for outside in ("drop", "clip"):
            table = self.good(*fit("vqvae", outside=outside), "--in", "far.bl", "--save", f"{outside}.h5", "--report", "fit.json", "--force")
            report = json.loads((self.folder / "fit.json").read_text())
            self.assertEqual(report["outside"]["eta"]["above"], far)
            self.assertEqual(report["dropped"], far if outside == "drop" else 0)
            self.assertEqual("too far out" in table, outside == "drop")
            self.good("--with", f"{outside}.h5", "--in", "far.bl", "--out", f"{outside}.bl")
        dropped, clipped = (sum(len(b["token"]) for b in beamline.read(self.folder / f"{o}.bl")) for o in ("drop", "clip"))
        self.assertEqual(clipped - dropped, far)

    def test_binning_is_an_even_grid_of_as_many_codes(self):
        self.good("--fit", "binning", "--codes", 8192, "--in", "jets.bl", "--save", "grid.h5", "--report", "grid.json")
        report = json.loads((self.folder / "grid.json").read_text())
        self.assertEqual((report["tokenizer"]["kind"], report["codes"]["all"]), ("binning", 20 * 20 * 20))
        steps = np.diff(report["tokenizer"]["edges"]["eta"])
        np.testing.assert_allclose(steps, 1.6 / 20)
        self.good("--fit", "binning", "--pt-bins", 7, "--eta-bins", 3, "--in", "jets.bl", "--save", "own.h5", "--report", "own.json")
        self.assertEqual(json.loads((self.folder / "own.json").read_text())["codes"]["all"], 7 * 3 * 5)
        self.good("--with", "grid.h5", "--in", "jets.bl", "--out", "tokens.bl")
        self.good("--with", "grid.h5", "--decode", "--in", "tokens.bl", "--out", "back.bl")
        back, real = (beamline.concat(list(beamline.read(self.folder / f))) for f in ("back.bl", "jets.bl"))
        np.testing.assert_array_equal(back["jet_eta"], real["jet_eta"])
        keep = np.diff(real["particle_offsets"].astype(int)) > 0
        self.assertLess(np.median(np.abs(masses(back) - masses(real))[keep] / np.median(masses(real))), 0.05)

    def test_tokens_go_on_to_masks(self):
        self.good(*fit("vqvae-conditional"), "--in", "jets.bl", "--save", "tok.h5")
        self.good("--with", "tok.h5", "--in", "jets.bl", "--out", "tokens.bl")
        stream = beamline.read(self.folder / "tokens.bl")
        self.assertEqual(stream.schema.id, "tokens/2")
        meta = stream.hello.meta["tokenizer"]
        self.assertEqual((meta["vocabulary"], meta["start"], meta["stop"], meta["mask"], meta["conditional"]), (68, 65, 66, 67, True))
        self.assertGreater(meta["unigram_entropy"], 1)
        done = subprocess.run([program("bl-mask"), "--mode", "one", "--in", "tokens.bl", "--out", "masked.bl"], cwd=self.folder, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(beamline.read(self.folder / "masked.bl").hello.meta["tokenizer"]["hash"], meta["hash"])

    def test_what_is_wrong_is_said(self):
        self.write(self.folder / "few.bl", [jets(10)])
        usual = fit("vqvae-conditional")
        self.bad(3, "few.bl: the ", *fit("vqvae", codes=4096), "--in", "few.bl", "--save", "no.h5")
        self.bad(3, "too few for 4096 codes; give more jets or ask for fewer codes", *fit("vqvae-conditional", codes=4096), "--in", "few.bl", "--save", "no.h5")
        self.write(self.folder / "none.bl", [])
        self.bad(3, "there is no jet to fit a tokenizer on", *usual, "--in", "none.bl", "--save", "no.h5")
        empty = jets(1)
        self.write(self.folder / "empty.bl", [empty])
        self.bad(3, "the 1 jets hold no constituent", *usual, "--in", "empty.bl", "--save", "no.h5")
        self.bad(2, "dim 16 is not a multiple of heads 3", *fit("vqvae-conditional", heads=3), "--in", "jets.bl", "--save", "no.h5")
        self.bad(2, "above 0 where codes follow the gradient", *fit("vqvae", codebook="gradient", codebook_weight=0), "--in", "jets.bl", "--save", "no.h5")
        self.bad(2, "trains no network", "--fit", "kmeans", "--latent", 8, "--in", "jets.bl", "--save", "no.h5")
        self.bad(2, "tails are fitted", *usual, "--tails", 0.99, "--in", "jets.bl", "--save", "no.h5")
        whole = SOURCE / "tests" / "contract" / "data" / "objects.bl"
        for kind in ("binning", *KINDS):
            self.bad(2, f"{kind} is for the constituents of jets (particles/1), not for objects/1", "--fit", kind, "--in", whole, "--save", "no.h5")
        bad = jets(20)
        bad["pt"][5] = np.nan
        with mock.patch("beamline.schema.Schema.check"):  # which would refuse to write it
            self.write(self.folder / "nan.bl", [bad])
        self.bad(3, "column 'pt', entry 5: nan is not a finite number", *usual, "--in", "nan.bl", "--save", "no.h5")
        self.assertFalse((self.folder / "no.h5").exists())

        self.good(*usual, "--in", "jets.bl", "--save", "tok.h5")
        self.bad(2, "options of the fit have no meaning", "--with", "tok.h5", "--latent", 8, "--in", "jets.bl", "--out", "no.bl")
        self.good("--with", "tok.h5", "--in", "jets.bl", "--out", "tokens.bl")
        self.good(*fit("vqvae"), "--in", "jets.bl", "--save", "other.h5")
        self.bad(3, "decode with the tokenizer that made them", "--with", "other.h5", "--decode", "--in", "tokens.bl", "--out", "no.bl")
        self.bad(3, "tokenizes particles/1, and", "--with", "tok.h5", "--in", whole, "--out", "no.bl")
        raw = (self.folder / "tok.h5").read_bytes()
        for part in (0.3, 0.7, 0.99):
            (self.folder / "cut.h5").write_bytes(raw[:int(part * len(raw))])
            self.bad(3, "cut.h5", "--with", "cut.h5", "--in", "jets.bl", "--out", "no.bl")
        self.assertFalse((self.folder / "no.bl").exists())


if __name__ == "__main__":
    unittest.main()
