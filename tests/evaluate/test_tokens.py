"""bl-evaluate tokens as its users run it; its numbers are made again from streams of bl-tokenize, by numpy."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

import beamline

SOURCE = Path(os.environ["BEAMLINE_SOURCE"])
sys.path.append(str(SOURCE / "tests" / "python"))
from support import program  # noqa: E402

JETS = SOURCE / "samples" / "jets.bl"
NETWORK = ["--codes", 64, "--dim", 16, "--heads", 2, "--layers", 1, "--epochs", 1]


def read(path):
    return beamline.concat(list(beamline.read(path)))


def jets_of(batch):
    """pT and mass of each jet, from massless constituents. None of the jets is empty."""
    pt, eta, phi = (batch[c].astype(float) for c in ("pt", "eta", "phi"))
    parts = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)])
    px, py, pz, e = np.add.reduceat(parts, batch["particle_offsets"][:-1].astype(int), axis=1)
    return {"jet_pt": np.hypot(px, py), "jet_mass": np.sqrt(np.maximum(e**2 - px**2 - py**2 - pz**2, 0))}


class Tokens(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.evaluate, cls.tokenize = program("bl-evaluate"), program("bl-tokenize")
        cls.kept = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.kept.name)
        cls.fitted = {"grid": ["binning", "--codes", 1000], "conditional": ["vqvae-conditional", *NETWORK], "plain": ["vqvae", *NETWORK]}
        for name, options in cls.fitted.items():
            cls.run_ok(cls.tokenize, "--fit", *options, "--in", JETS, "--save", cls.folder / f"{name}.h5", "--threads", 2)
        cls.report = cls.folder / "report"
        cls.text = cls.run_ok(cls.evaluate, "tokens", "--reference", JETS, "--tokenizer", cls.tokenizers(), "--out", cls.report, "--threads", 2, pictures=True)
        cls.numbers = json.loads((cls.report / "report.json").read_text())["tokens"]

    @classmethod
    def tearDownClass(cls):
        cls.kept.cleanup()

    @classmethod
    def tokenizers(cls):
        return ",".join(f"{name}={cls.folder / name}.h5" for name in cls.fitted)

    @classmethod
    def run_ok(cls, *command, pictures=False):
        """Without gnuplot unless pictures are wanted: it takes longer than all else."""
        environment = os.environ if pictures else {**os.environ, "PATH": ""}
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=100, env=environment)
        if done.returncode != 0:
            raise AssertionError(f"{command}: {done.returncode} {done.stderr}")
        return done.stdout

    def refused(self, code, *options):
        done = subprocess.run([self.evaluate, "tokens", *(str(o) for o in options), "--out", str(self.folder / "refused")], capture_output=True, text=True, timeout=100)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertFalse((self.folder / "refused").exists())
        return done.stderr

    def test_numbers_are_those_of_streams_by_numpy(self):
        true = read(JETS)
        before = jets_of(true)
        for entry in self.numbers["tokenizers"]:
            coded, back = self.folder / "coded.bl", self.folder / "back.bl"
            self.run_ok(self.tokenize, "--with", entry["file"], "--in", JETS, "--out", coded, "--force")
            self.run_ok(self.tokenize, "--with", entry["file"], "--decode", "--in", coded, "--out", back, "--force")
            tokens = read(coded)["token"]
            _, counts = np.unique(tokens, return_counts=True)
            share = counts / counts.sum()
            self.assertEqual(entry["codes"]["used"], len(counts))
            self.assertEqual(entry["codes"]["dead"], entry["codes"]["all"] - len(counts))
            self.assertAlmostEqual(entry["codes"]["perplexity"], np.exp(-np.sum(share * np.log(share))), places=8)
            self.assertEqual(entry["particles"], len(true["pt"]))
            self.assertEqual(entry["particles"] - entry["dropped"] - entry["truncated"], len(tokens))
            after = jets_of(read(back))
            for name in before:
                change = after[name] - before[name]
                found = entry["jets"][name]
                self.assertEqual(found["entries"], len(change))
                # laboratory against the jet's frame, in f32
                for key, value in {"mean": change.mean(), "std": change.std(), "mean_absolute": np.abs(change).mean(), "q50": np.median(change)}.items():
                    self.assertAlmostEqual(found[key], value, delta=2e-3, msg=f"{entry['name']} {name} {key}")

    def test_residuals_of_constituents_are_those_of_the_fit(self):
        for entry in self.numbers["tokenizers"]:
            other = self.folder / "fit.json"
            self.run_ok(self.tokenize, "--with", entry["file"], "--in", JETS, "--out", self.folder / "again.bl", "--report", other, "--force")
            errors = json.loads(other.read_text())["error"]
            for ours, theirs in (("pt_relative", "pt_relative"), ("eta", "eta"), ("phi", "phi")):
                for key in ("mean", "std"):
                    self.assertAlmostEqual(entry["constituents"][ours][key], errors[theirs][key], places=6)

    def test_clouds(self):
        for entry in self.numbers["tokenizers"]:
            self.assertEqual(len(entry["cloud"]), 10)
            for token in entry["cloud"]:
                spread = max(token[c]["std"] for c in ("pt", "eta", "phi"))
                if entry["name"] == "conditional":
                    self.assertEqual(token["repeats"], 500)
                    self.assertGreater(spread, 0)
                else:
                    self.assertEqual(token["repeats"], 1)
                    self.assertEqual(spread, 0)

    def test_everything_is_in_the_folder(self):
        names = {path.name for path in (self.report / "figures").iterdir()}
        for figure in ("jet_mass", "delta_tau32", "constituent_eta", "use", "codebook_mass", "cloud_conditional", "cloud_pt_grid"):
            self.assertIn(f"tokens_{figure}.dat", names)
            self.assertIn(f"tokens_{figure}.gp", names)
        page = (self.report / "report.html").read_text()
        for text in ("Token quality", "Jet mass by process", "conditional"):
            self.assertIn(text, page)
        for text in ("Codes", "Single tokens", "grid", "binning"):
            self.assertIn(text, self.text)
        self.assertEqual(sum(v["true"]["entries"] for v in self.numbers["tokenizers"][0]["jet_mass_by_process"].values()), 900)

    def test_threads_and_tokenizers_beside_do_not_matter(self):
        again = self.folder / "again"
        self.run_ok(self.evaluate, "tokens", "--reference", JETS, "--tokenizer", f"conditional={self.folder}/conditional.h5", "--out", again, "--threads", 3, "--force")
        numbers = json.loads((again / "report.json").read_text())["tokens"]
        self.assertEqual(numbers["tokenizers"][0], next(t for t in self.numbers["tokenizers"] if t["name"] == "conditional"))

    def test_classifiers(self):
        found = []
        for threads in (1, 3):
            out = self.folder / f"tagged{threads}"
            self.run_ok(self.evaluate, "tokens", "--reference", JETS, "--tokenizer", f"{self.folder}/grid.h5", "--classifiers", "deep-sets", "--seeds", 2, "--max-jets", 150,
                        "--out", out, "--threads", threads)
            found.append(json.loads((out / "report.json").read_text())["tokens"])
        a, b = found
        self.assertEqual(a["classifiers"], b["classifiers"])
        self.assertEqual(a["jets"], 150)
        self.assertEqual(sum(a["classifier_jets"].values()), 150)
        true, decoded = a["classifiers"]["deep-sets"], a["tokenizers"][0]["classifiers"]["deep-sets"]
        self.assertEqual(len(true["accuracy"]["seeds"]), 2)
        self.assertAlmostEqual(true["accuracy"]["mean"], np.mean(true["accuracy"]["seeds"]))
        self.assertAlmostEqual(true["auc"]["std"], np.std(true["auc"]["seeds"], ddof=1))
        self.assertAlmostEqual(decoded["accuracy_loss"]["mean"], true["accuracy"]["mean"] - decoded["accuracy"]["mean"])
        self.assertGreater(true["auc"]["mean"], 0.5)
        self.assertEqual(a["classes"], a["processes"])

    def test_classes_of_classifiers(self):
        out = self.folder / "two"
        self.run_ok(self.evaluate, "tokens", "--reference", JETS, "--tokenizer", f"{self.folder}/grid.h5", "--classifiers", "deep-sets", "--seeds", 1,
                    "--classes", "top=Tbqq,qcd=QCD-q+QCD-g", "--out", out)
        numbers = json.loads((out / "report.json").read_text())["tokens"]
        self.assertEqual(numbers["classes"], ["top", "qcd"])
        self.assertEqual(sum(numbers["classifier_jets"].values()), 400)  # others are left out
        self.assertGreater(numbers["classifiers"]["deep-sets"]["auc"]["mean"], 0.8)
        with_classifiers = ["--reference", JETS, "--tokenizer", f"{self.folder}/grid.h5", "--classifiers", "deep-sets"]
        self.assertIn("has no jet of the class 'Z'", self.refused(3, *with_classifiers, "--classes", "Z,top=Tbqq"))
        self.assertIn("one class only ('top')", self.refused(3, *with_classifiers, "--classes", "top=Tbqq"))
        self.assertIn("--classes is for classifiers", self.refused(2, *with_classifiers[:4], "--classes", "Tbqq,Hbb"))

    def test_refusals(self):
        grid = f"{self.folder}/grid.h5"
        self.assertIn("--tokenizer is required", self.refused(2, "--reference", JETS))
        self.assertIn("--reference FILE, or --in", self.refused(2, "--tokenizer", grid))
        self.assertIn("--reference FILE, or --in", self.refused(2, "--tokenizer", grid, "--reference", JETS, "--in", JETS))
        self.assertIn("two tokenizers are called 'grid'", self.refused(2, "--reference", JETS, "--tokenizer", f"{grid},{grid}"))
        self.assertIn("is not an HDF5 file", self.refused(3, "--reference", JETS, "--tokenizer", JETS))
        events = self.folder / "events.h5"
        self.run_ok(self.tokenize, "--fit", "formula", "--in", SOURCE / "samples" / "anomaly" / "background.bl", "--save", events, "--force")
        self.assertIn("needs tokenizers of jets", self.refused(3, "--reference", JETS, "--tokenizer", events))
        self.assertIn("expected 'particles/1'", self.refused(3, "--reference", SOURCE / "samples" / "anomaly" / "background.bl", "--tokenizer", grid))
        self.assertIn("one class only ('q')", self.refused(3, "--reference", self.made(["q"] * 5), "--tokenizer", grid, "--classifiers", "deep-sets"))

    def test_processes_are_in_the_order_of_their_numbers(self):
        self.assertEqual(self.numbers["processes"], sorted(self.numbers["processes"]))  # the sample says no numbers
        out = self.folder / "ordered"
        jets = self.made(["q", "a", "b", "x", "q"], {"labels": {"10": "q", "2": "a", "1": "b"}})
        self.run_ok(self.evaluate, "tokens", "--reference", jets, "--tokenizer", f"{self.folder}/grid.h5", "--out", out)
        self.assertEqual(json.loads((out / "report.json").read_text())["tokens"]["processes"], ["b", "a", "q", "x"])

    def made(self, processes, meta=None):
        path = self.folder / "made.bl"
        n = len(processes)
        columns = {
            "event_index": np.arange(n, dtype=np.uint64),
            "event_id": np.arange(n, dtype=np.uint64),
            "weight": np.ones(n),
            **beamline.text_column("process", processes),
            "particle_offsets": np.arange(0, 4 * n + 1, 4).astype(np.uint32),
            "pt": np.linspace(1, 20, 4 * n, dtype=np.float32),
            "eta": np.linspace(-0.3, 0.3, 4 * n, dtype=np.float32),
            "phi": np.zeros(4 * n, np.float32),
        }
        with beamline.Writer(path, "particles/1", meta=meta or {}, force=True) as writer:
            writer.write(columns)
        return path


if __name__ == "__main__":
    unittest.main()
