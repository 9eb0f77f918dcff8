"""bl-evaluate as its users run it: numbers against numpy, pages that are whole in themselves, errors in one sentence."""
import html.parser
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

import beamline

SOURCE = Path(os.environ["BEAMLINE_SOURCE"])
sys.path.append(str(SOURCE / "tests" / "python"))
from support import BIN, program  # noqa: E402

JETS = SOURCE / "samples" / "jets.bl"
DATA = SOURCE / "tests" / "contract" / "data"
QUICK = ["--draws", 1000, "--replicas", 8, "--classifiers", "none"]
COLUMNS = ("event_index", "event_id", "weight", "process", "process_char_offsets", "jet_eta", "jet_phi", "particle_offsets", "pt", "eta", "phi")


def read(path):
    return beamline.concat(list(beamline.read(str(path))))


def write_jets(path, columns):
    with beamline.Writer(str(path), "particles/1", force=True) as out:
        out.write(columns)


def write_scores(path, classes, probability, label, meta=None, spoil=None, **more):
    """A tagger's stream. spoil(batch): puts in what no writer would write."""
    n = len(probability)
    columns = {"event_index": np.arange(n, dtype=np.uint64), "event_id": np.arange(n, dtype=np.uint64), "weight": np.ones(n),
               "token_offsets": np.zeros(n + 1, dtype=np.uint32), **beamline.text_column("process", ["jet"] * n), **more}
    if label is not None:
        columns["label"] = np.asarray(label, dtype=np.int32)
    for i, name in enumerate(classes):
        columns["score_" + name] = probability[:, i].astype(np.float32)
    meta = {"tagger": {"classes": list(classes), "model": "none"}} if meta is None else meta
    with beamline.Writer(str(path), "scores/1", meta=meta, force=True) as out:
        if spoil:
            real = out.schema

            class Spoilt:
                def batch(self, columns, seq):
                    batch = real.batch(columns, seq=seq)
                    spoil(batch)
                    return batch
                id, hash = real.id, real.hash

            out.schema = Spoilt()
        out.write(columns)


def drawn_scores(classes, n, strength, seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, n)
    logit = rng.normal(size=(n, classes))
    logit[np.arange(n), label] += strength
    p = np.exp(logit)
    return (p / p.sum(1, keepdims=True)).astype(np.float32).astype(float), label


def auc_of(score, signal):
    """Mann-Whitney with half ties."""
    s, b = score[signal], score[~signal]
    return np.mean((s[:, None] > b[None, :]) + 0.5 * (s[:, None] == b[None, :]))


def auc_error_of(score, signal):
    """DeLong's, by the placements."""
    s, b = score[signal], score[~signal]
    m = (s[:, None] > b[None, :]) + 0.5 * (s[:, None] == b[None, :])
    return np.sqrt(m.mean(1).var(ddof=1) / len(s) + m.mean(0).var(ddof=1) / len(b))


def rejection_of(score, signal, efficiency):
    """1 / background efficiency of the tightest cut with at least this signal efficiency, and its binomial error."""
    s, b = np.sort(score[signal])[::-1], score[~signal]
    cut = s[int(np.ceil(efficiency * len(s) - 1e-9)) - 1]
    e = np.mean(b >= cut)
    return (1 / e, np.sqrt(e * (1 - e) / len(b)) / e**2) if e > 0 else (np.inf, np.nan)


class Program(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.evaluate = program("bl-evaluate")

    def setUp(self):
        kept = tempfile.TemporaryDirectory()
        self.addCleanup(kept.cleanup)
        self.folder = Path(kept.name)

    def run_it(self, *options, **how):
        return subprocess.run([self.evaluate, *(str(o) for o in options)], capture_output=True, text=True, timeout=100, **how)

    def report(self, what, *options):
        done = self.run_it(what, *options, "--out", self.folder / "report", "--force")
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stderr)
        return json.loads((self.folder / "report" / "report.json").read_text())[what], done.stdout

    def refused(self, code, says, *options):
        done = self.run_it(*options, "--out", self.folder / "refused")
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        for word in [says] if isinstance(says, str) else says:
            self.assertIn(word, done.stderr)
        self.assertFalse((self.folder / "refused").exists())
        self.assertFalse((self.folder / "refused.part").exists())


class CommandLine(Program):
    def test_first_word(self):
        self.refused(2, ["did you mean generation", "classification"], "genration")
        self.refused(2, "--what is required")
        self.refused(2, "not expected: loss", "generation", "loss")
        done = self.run_it("loss", "--in", DATA / "train.jsonl")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--out FOLDER", done.stderr)
        done = self.run_it("--what", "loss", "--in", DATA / "train.jsonl", "--out", self.folder / "a")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Usage: bl-evaluate generation|", self.run_it("--help").stdout)

    def test_full_disk_leaves_nothing(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([self.evaluate, "loss", "--in", str(DATA / "train.jsonl"), "--out", str(self.folder / "a")], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 4)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_without_gnuplot(self):
        alone = self.folder / "bin"
        alone.mkdir()
        done = self.run_it("loss", "--in", DATA / "train.jsonl", "--out", self.folder / "a", env={**os.environ, "PATH": str(alone)})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr.count("gnuplot-nox"), 1, done.stderr)
        self.assertTrue((self.folder / "a" / "figures" / "loss_loss.dat").exists())
        self.assertTrue((self.folder / "a" / "figures" / "loss_loss.gp").exists())
        self.assertIn("No picture", (self.folder / "a" / "report.html").read_text())


class Generation(Program):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        jets = read(JETS)
        cls.jets = {name: np.array(jets[name]) for name in COLUMNS}
        cls.jets["weight"] = np.ones(len(cls.jets["event_id"]))

    def variables(self, c):
        """By numpy, of massless constituents."""
        pt, eta, phi = (c[k].astype(float) for k in ("pt", "eta", "phi"))
        first = c["particle_offsets"].astype(int)
        px, py, pz, e = np.add.reduceat(np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)]), first[:-1], axis=1)
        counts = np.diff(first)
        dphi = (phi - np.repeat(c["jet_phi"].astype(float), counts) + np.pi) % (2 * np.pi) - np.pi
        return {"jet_pt": np.hypot(px, py), "jet_eta": np.arcsinh(pz / np.hypot(px, py)), "jet_mass": np.sqrt(np.maximum(e**2 - px**2 - py**2 - pz**2, 0)),
                "multiplicity": counts, "constituent_pt": pt, "constituent_eta": eta - np.repeat(c["jet_eta"].astype(float), counts), "constituent_phi": dphi}

    def test_numbers_are_those_of_numpy(self):
        shifted = {**self.jets, "pt": (self.jets["pt"] * np.float32(1.2))}
        write_jets(self.folder / "a.bl", self.jets)
        write_jets(self.folder / "b.bl", shifted)
        got, text = self.report("generation", "--reference", self.folder / "a.bl", "--in", self.folder / "b.bl", *QUICK)
        self.assertFalse(got["jet_frame"])
        self.assertTrue(got["few"])
        self.assertIn("FPD and KPD are from 450 jets", text)
        for side, columns in (("mean_reference", self.jets), ("mean_generated", shifted)):
            for name, values in self.variables(columns).items():
                here = got["variables"][name][side]
                self.assertAlmostEqual(here["value"], values.mean(), delta=1e-5 * max(1, abs(values.mean())), msg=name)
                if not name.startswith("constituent"):
                    self.assertAlmostEqual(here["error"], values.std(ddof=1) / np.sqrt(len(values)), delta=1e-4 * max(1, values.std()), msg=name)
        # All quantiles of pT are 1.2 times as large: W1 is a fifth of the mean.
        mean = self.variables(self.jets)["jet_pt"].mean()
        for metric in ("w1", "w1_jetnet"):
            w1 = got["variables"]["jet_pt"][metric]
            self.assertLess(abs(w1["value"] - 0.2 * mean), 4 * w1["error"] + 0.01 * mean)
            self.assertGreater(w1["value"], 5 * w1["floor"])
        self.assertGreater(got["variables"]["jet_pt"]["jensen_shannon"]["significance"], 5)
        # Directions and the fractions of pT are as they were.
        for name in ("constituent_eta", "constituent_phi", "multiplicity", "tau21", "tau32"):
            self.assertLess(got["variables"][name]["w1"]["significance"], 2, name)
        for name in ("fpd", "kpd", "coverage", "mmd"):
            self.assertLess(abs(got["jets"][name]["significance"]), 4, name)

    def test_jets_without_an_axis_are_compared_in_the_frame_of_the_jet(self):
        counts = np.diff(self.jets["particle_offsets"].astype(int))
        relative = {**self.jets, "eta": self.jets["eta"] - np.repeat(self.jets["jet_eta"], counts)}
        dphi = self.jets["phi"].astype(float) - np.repeat(self.jets["jet_phi"].astype(float), counts)
        relative["phi"] = ((dphi + np.pi) % (2 * np.pi) - np.pi).astype(np.float32)
        for axes in (None, 0):  # no columns, as of other programs; 0 as bl-tokenize --decode writes
            one = {k: v for k, v in relative.items() if k not in ("jet_eta", "jet_phi")} if axes is None else {**relative, "jet_eta": relative["jet_eta"] * 0, "jet_phi": relative["jet_phi"] * 0}
            write_jets(self.folder / "b.bl", one)
            got, text = self.report("generation", "--reference", JETS, "--in", self.folder / "b.bl", *QUICK)
            self.assertTrue(got["jet_frame"])
            self.assertNotIn("jet_eta", got["variables"])
            self.assertIn("in the jet's frame", text)
            for name, variable in got["variables"].items():
                self.assertLess(variable["w1"]["value"], 2.5 * variable["w1"]["floor"], name)
            self.assertIn("weights that differ", text)

    def test_what_is_not_defined_is_counted_and_infinity_is_said(self):
        few = {**self.jets}
        keep = np.ones(len(few["pt"]), dtype=bool)
        first = few["particle_offsets"].astype(int)
        keep[first[0] + 2:first[1]] = False  # two constituents
        keep[first[5] + 1:first[6]] = False  # one
        counts = np.add.reduceat(keep, first[:-1])
        few["particle_offsets"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
        for name in ("pt", "eta", "phi"):
            few[name] = few[name][keep]
        few["pt"] = few["pt"] * np.float32(5)
        write_jets(self.folder / "b.bl", few)
        got, text = self.report("generation", "--reference", JETS, "--in", self.folder / "b.bl", *QUICK)
        self.assertEqual(got["variables"]["tau32"]["undefined_generated"], 2)
        self.assertEqual(got["variables"]["tau32"]["undefined_reference"], 0)
        self.assertEqual(got["variables"]["jet_pt"]["undefined_generated"], 0)
        self.assertEqual(got["variables"]["jet_pt"]["kl_ntp4jets"]["value"], "inf")
        self.assertRegex(text, r"jet pT +- +\S+ ± \S+ +- +inf ")

    def test_a_classifier_sees_what_histograms_do_not(self):
        # Constituents' directions belong to others of the jet: no histogram of one variable changes, whole jets do.
        rng = np.random.default_rng(5)
        mixed = {**self.jets, "eta": self.jets["eta"].copy(), "phi": self.jets["phi"].copy()}
        first = mixed["particle_offsets"].astype(int)
        for a, b in zip(first[:-1], first[1:]):
            order = a + rng.permutation(b - a)
            mixed["eta"][a:b], mixed["phi"][a:b] = mixed["eta"][order], mixed["phi"][order]
        write_jets(self.folder / "b.bl", mixed)
        got, text = self.report("generation", "--reference", JETS, "--in", self.folder / "b.bl", "--draws", 1000, "--replicas", 4, "--seeds", 1, "--threads", 2)
        told = got["jets"]["classifier"]["deep-sets"]
        self.assertGreater(told["auc"], 0.9)
        self.assertEqual(told["jets"], 900)
        self.assertLess(got["variables"]["constituent_eta"]["w1"]["significance"], 3)
        self.assertIn("AUC of a classifier (deep-sets)", text)
        self.assertGreater(got["jets"]["fpd"]["significance"], 5)

    def test_draws_and_the_number_of_jets(self):
        got, _ = self.report("generation", "--reference", JETS, "--in", JETS, "--max-jets", 300, *QUICK)
        self.assertEqual((got["reference_jets"], got["generated_jets"]), (300, 300))
        self.assertEqual(got["variables"]["tau21"]["w1"]["jets"], 150)

    def test_bad_input(self):
        def jets(n):
            columns = {k: v[:n] for k, v in self.jets.items() if k not in ("pt", "eta", "phi", "particle_offsets", "process", "process_char_offsets")}
            columns["particle_offsets"] = self.jets["particle_offsets"][:n + 1]
            columns |= {k: self.jets[k][:columns["particle_offsets"][-1]] for k in ("pt", "eta", "phi")}
            write_jets(self.folder / "n.bl", {**columns, **beamline.text_column("process", ["x"] * n)})
            return self.folder / "n.bl"

        self.refused(2, "--reference", "generation", "--in", JETS)
        self.refused(2, "one --in, not 2", "generation", "--reference", JETS, "--in", f"{JETS},{JETS}")
        self.refused(3, "holds no jets", "generation", "--reference", JETS, "--in", jets(0))
        self.refused(3, "holds one jet", "generation", "--reference", JETS, "--in", jets(1))
        self.refused(3, "holds 3 jets", "generation", "--in", JETS, "--reference", jets(3))
        self.refused(3, "particles/1", "generation", "--reference", JETS, "--in", DATA / "scores.bl")


class Classification(Program):
    def test_two_classes(self):
        p, label = drawn_scores(2, 3000, 1.5, 1)
        write_scores(self.folder / "s.bl", ["top", "qcd"], p, label)
        got, text = self.report("classification", "--in", self.folder / "s.bl")
        tagger = got["taggers"]["s"]
        correct = np.mean(p.argmax(1) == label)
        self.assertAlmostEqual(tagger["accuracy"]["value"], correct, places=12)
        self.assertAlmostEqual(tagger["accuracy"]["error"], np.sqrt(correct * (1 - correct) / len(label)), places=12)
        self.assertAlmostEqual(tagger["auc"]["value"], auc_of(p[:, 0], label == 0), places=12)
        self.assertAlmostEqual(tagger["auc"]["error"], auc_error_of(p[:, 0], label == 0), places=12)
        for efficiency in (0.3, 0.5):
            value, error = rejection_of(p[:, 0], label == 0, efficiency)
            here = tagger["classes"]["top"]["rejection"][str(efficiency)]
            self.assertAlmostEqual(here["value"], value, places=9)
            self.assertAlmostEqual(here["error"], error, places=9)
        confusion = np.array([[np.mean(p[label == t].argmax(1) == g) for g in (0, 1)] for t in (0, 1)])
        np.testing.assert_allclose(tagger["confusion"], confusion, atol=1e-12)
        self.assertIn("AUC of top", text)
        # The ROC curve of the figure, as numpy reads it.
        table = np.loadtxt(self.folder / "report" / "figures" / "classification_roc.dat")
        row = table[np.argmin(abs(table[:, 1] - 0.5))]
        self.assertAlmostEqual(row[4], rejection_of(p[:, 0], label == 0, 0.5)[0], places=9)
        self.assertTrue(row[5] < row[4] < row[6])

    def test_several_classes(self):
        p, label = drawn_scores(4, 2000, 1.2, 2)
        label = np.concatenate([label, [-1, -1, -1]])
        p = np.concatenate([p, p[:3]])
        names = ["a", "b_2", "c/d", "e"]
        write_scores(self.folder / "s.bl", names, p, label)
        got, text = self.report("classification", "--in", self.folder / "s.bl", "--efficiencies", "0.4")
        self.assertIn("3 jets of", text)
        p, label = p[:-3], label[:-3]
        tagger = got["taggers"]["s"]
        aucs = [auc_of(p[:, c], label == c) for c in range(4)]
        for c, name in enumerate(names):
            self.assertAlmostEqual(tagger["classes"][name]["auc"]["value"], aucs[c], places=12)
            self.assertAlmostEqual(tagger["classes"][name]["rejection"]["0.4"]["value"], rejection_of(p[:, c], label == c, 0.4)[0], places=9)
        self.assertAlmostEqual(tagger["auc"]["value"], np.mean(aucs), places=12)
        pair = (label == 1) | (label == 3)
        one = p[pair, 1] / (p[pair, 1] + p[pair, 3])
        self.assertAlmostEqual(tagger["one_against_one"]["b_2"]["e"]["auc"]["value"], auc_of(one, label[pair] == 1), places=12)

    def test_weights_count_where_they_are_asked_for(self):
        p, label = drawn_scores(2, 800, 1, 8)
        weight = np.where(label == 0, 3.0, 0.5)
        write_scores(self.folder / "s.bl", ["top", "qcd"], p, label, weight=weight)
        correct = p.argmax(1) == label
        got, text = self.report("classification", "--in", self.folder / "s.bl")
        self.assertAlmostEqual(got["taggers"]["s"]["accuracy"]["value"], correct.mean(), places=12)
        self.assertIn("weights that differ", text)
        got, text = self.report("classification", "--in", self.folder / "s.bl", "--weights")
        self.assertAlmostEqual(got["taggers"]["s"]["accuracy"]["value"], np.average(correct, weights=weight), places=12)
        self.assertNotIn("weights that differ", text)

    def test_seeds_and_taggers(self):
        aucs = {"full": [], "scratch": []}
        words = []
        for name, strength in (("full", 2), ("scratch", 1)):
            for seed in range(3):
                p, label = drawn_scores(2, 1000, strength, 10 * strength + seed)
                path = self.folder / f"{name}{seed}.bl"
                write_scores(path, ["top", "qcd"], p, label)
                aucs[name].append(auc_of(p[:, 0], label == 0))
                words.append(f"{name}={path}")
        got, text = self.report("classification", "--in", ",".join(words))
        for name, values in aucs.items():
            tagger = got["taggers"][name]
            self.assertEqual(tagger["seeds"], 3)
            self.assertAlmostEqual(tagger["auc"]["value"], np.mean(values), places=12)
            self.assertAlmostEqual(tagger["auc"]["error"], np.std(values, ddof=1), places=12)
        self.assertIn("standard deviation over seeds", text)
        self.assertIn("other jets", text)

    def test_no_background_left(self):
        label = np.repeat([0, 1], 500)
        p = np.where(label[:, None] == [0, 1], 0.9, 0.1)
        write_scores(self.folder / "s.bl", ["top", "qcd"], p, label)
        got, text = self.report("classification", "--in", self.folder / "s.bl")
        here = got["taggers"]["s"]["classes"]["top"]["rejection"]["0.5"]
        self.assertEqual(here["value"], "inf")
        # Clopper and Pearson with 0 of 500: the upper end of the 68 % interval is 1 - (0.1587)^(1/500).
        self.assertAlmostEqual(here["low"], 1 / (1 - 0.15865525393145707 ** (1 / 500)), places=6)
        self.assertIn("> 272", text)

    def test_bad_input(self):
        p, label = drawn_scores(2, 50, 1, 3)
        path = self.folder / "s.bl"

        def refuse(code, says, **how):
            write_scores(path, how.pop("classes", ["top", "qcd"]), how.pop("p", p), how.pop("label", label), **how)
            self.refused(code, says, "classification", "--in", path)

        refuse(3, ["no column 'label'"], label=None)
        refuse(3, ["no jet has a label"], label=np.full(50, -1))
        refuse(3, ["of class 'qcd'", "at least two classes"], label=np.ones(50))
        refuse(3, ["label 2"], label=np.where(np.arange(50) == 7, 2, label))
        refuse(3, ["no scores of a tagger", "bl-finetune"], meta={})
        refuse(3, ["no list of names"], meta={"tagger": {"classes": 3}})
        refuse(3, ["no column 'score_w'"], meta={"tagger": {"classes": ["top", "w"]}})
        refuse(3, ["jet 0 has score_top", "no probability"], p=p + 1)

        def nan(batch):
            batch["score_top"][4] = np.nan
        refuse(3, ["score_top", "nan"], spoil=nan)
        write_scores(path, ["top", "qcd"], p, label)
        write_scores(self.folder / "o.bl", ["qcd", "top"], p, label)
        self.refused(3, "same classes", "classification", "--in", f"{path},{self.folder / 'o.bl'}")
        self.refused(2, "'1.5'", "classification", "--in", path, "--efficiencies", "0.3,1.5")
        self.refused(2, "--in is required", "classification")
        self.refused(3, "no scores of a tagger", "classification", "--in", DATA / "scores.bl")


class LearningCurve(Program):
    def curve(self, points, **more):
        path = self.folder / "curve.json"
        path.write_text(json.dumps({"format": "beamline.learning_curve/1", "classes": ["top", "qcd"], "test_jets": 1000,
                                    "points": [{"mode": m, "jets": n, "stopping_jets": 50, "seed": s, "accuracy": a, "auc": a + 0.1, "rejection_30": None,
                                                "rejection_50": 10 * a, "epochs": 1, "seconds": 2} for m, n, s, a in points], **more}))
        return path

    def test_numbers_are_those_of_numpy(self):
        values = {"full": {100: [0.70, 0.72], 1000: [0.80, 0.81], 10000: [0.85, 0.86]}, "scratch": {100: [0.55, 0.56], 1000: [0.70, 0.73], 10000: [0.82, 0.83]}}
        path = self.curve([(m, n, s, a) for m, sizes in values.items() for n, seeds in sizes.items() for s, a in enumerate(seeds)])
        got, text = self.report("learning-curve", "--in", path)
        for point in got["points"]:
            seeds = values[point["mode"]][point["jets"]]
            self.assertAlmostEqual(point["accuracy"]["mean"], np.mean(seeds), places=12)
            self.assertAlmostEqual(point["accuracy"]["error"], np.std(seeds, ddof=1) / np.sqrt(2), places=12)
            self.assertNotIn("rejection_30", point)
        # scratch at the accuracy that full has with 1,000 jets: linear in ln(jets) between 1,000 and 10,000
        mean = {m: [np.mean(v) for v in sizes.values()] for m, sizes in values.items()}
        needed = np.exp(np.interp(mean["full"][1], mean["scratch"], np.log([100, 1000, 10000])))
        one = next(c for c in got["comparisons"]["scratch"]["accuracy"] if c["jets"] == 1000)
        self.assertEqual(one["ratio"]["kind"], "measured")
        self.assertAlmostEqual(one["other_needs"]["jets"] / needed, 1, places=9)
        self.assertAlmostEqual(one["ratio"]["value"] * 1000 / needed, 1, places=9)
        error = np.hypot(*(np.std(values[m][1000], ddof=1) / np.sqrt(2) for m in values))
        self.assertAlmostEqual(one["significance"], (mean["full"][1] - mean["scratch"][1]) / error, places=9)
        last = next(c for c in got["comparisons"]["scratch"]["auc"] if c["jets"] == 10000)
        self.assertEqual(last["ratio"]["kind"], "lower limit")
        self.assertEqual(last["other_needs"]["reach"], "never")
        self.assertIn("> 10,000", text)
        table = np.loadtxt(self.folder / "report" / "figures" / "learning-curve_accuracy.dat")
        np.testing.assert_allclose(table[table[:, 0] == 1][:, 4], mean["scratch"])
        self.assertIn("Errors from 2 seeds", text)

    def test_one_seed_one_size(self):
        got, text = self.report("learning-curve", "--in", self.curve([("full", 100, 1, 0.7), ("scratch", 100, 1, 0.6)]))
        self.assertIn("one seed", text)
        self.assertIsNone(got["comparisons"]["scratch"]["accuracy"][0]["significance"])
        self.assertNotIn("ratio", got["comparisons"]["scratch"]["accuracy"][0])

    def test_modes_of_heads_that_read_jet_variables(self):
        modes = ("full", "frozen", "scratch", "scratch-codebook", "jet-variables", "full+variables", "scratch+variables")
        got, text = self.report("learning-curve", "--in", self.curve([(m, n, s, 0.6 + 0.02 * k + n / 1e5 + s / 1e3)
                                                                      for k, m in enumerate(modes) for n in (100, 1000) for s in (0, 1)]))
        self.assertEqual([p["mode"] for p in got["points"]], [m for m in modes for _ in range(2)])
        self.assertEqual(set(got["comparisons"]), set(modes[1:]))
        figure = (self.folder / "report" / "figures" / "learning-curve_auc.gp").read_text()
        for mode in modes:
            self.assertIn(mode, text)
            self.assertIn(f"title '{mode}'", figure)
        colours = re.findall(r"with yerrorbars .*lc rgb '(#[0-9a-f]+)'", figure)
        self.assertEqual((len(colours), len(set(colours))), (len(modes), len(modes)))

    def test_other_method(self):
        path = self.curve([("frozen", n, 1, 0.7 + n / 1e4) for n in (10, 100)])
        self.report("learning-curve", "--in", path)  # one mode alone has nothing to be compared with
        path = self.curve([(m, n, 1, 0.7 + n / 1e4) for n in (10, 100) for m in ("frozen", "scratch")])
        self.refused(2, ["no mode 'full'", "frozen, scratch"], "learning-curve", "--in", path)
        got, _ = self.report("learning-curve", "--in", path, "--method", "frozen")
        self.assertEqual(list(got["comparisons"]), ["scratch"])

    def test_bad_input(self):
        path = self.folder / "bad.json"
        for content, says in (("", "no learning curve"), ("{", "no learning curve"), ("[]", "no learning curve"), ('{"format": "other"}', "no learning curve"),
                              ('{"format": "beamline.learning_curve/1", "classes": ["a"]}', "damaged"),
                              ('{"format": "beamline.learning_curve/1", "classes": ["a"], "points": []}', "no points"),
                              ('{"format": "beamline.learning_curve/1", "classes": ["a"], "points": [{"mode": "full", "jets": 5, "accuracy": null, "auc": 1}]}', "no number 'accuracy'"),
                              ('{"format": "beamline.learning_curve/1", "classes": ["a"], "points": [{"mode": "full", "jets": 0, "accuracy": 1, "auc": 1}]}', "0 jets"),
                              ('{"format": "beamline.learning_curve/1", "classes": ["a"], "points": [{"mode": "full", "jets": "x", "accuracy": 1, "auc": 1}]}', "damaged")):
            path.write_text(content)
            self.refused(3, [says, "bad.json"], "learning-curve", "--in", path)


class Loss(Program):
    def test_numbers_are_those_of_the_file(self):
        lines = [json.loads(line) for line in (DATA / "train.jsonl").read_text().splitlines()]
        validation = [(entry["validation_loss"], entry["step"]) for entry in lines if "validation_loss" in entry]
        steps = [(entry["step"], entry["loss"]) for entry in lines if "loss" in entry and "step" in entry]
        got, text = self.report("loss", "--in", DATA / "train.jsonl")
        run = got["runs"]["train"]["loss"]
        self.assertEqual(run["best_validation"], min(validation)[0])
        self.assertEqual(run["best_step"], min(validation)[1])
        self.assertEqual(run["validation"], validation[-1][0])
        table = np.loadtxt(self.folder / "report" / "figures" / "loss_loss.dat")
        np.testing.assert_array_equal(table[table[:, 0] == 0][:, [1, 4]], steps)
        self.assertIn("unigram entropy", text)

    def test_runs_that_still_write_and_many_steps(self):
        path = self.folder / "long.jsonl"
        path.write_text("".join(json.dumps({"step": i, "loss": float(i % 7)}) + "\n" for i in range(2000)) + '{"step": 2000, "lo')
        self.report("loss", "--in", f"a={path},b={DATA / 'train.jsonl'}")
        table = np.loadtxt(self.folder / "report" / "figures" / "loss_loss.dat")
        long = table[table[:, 0] == 0]
        self.assertEqual(len(long), 400)  # means of five
        np.testing.assert_allclose(long[:, 4], np.arange(2000).reshape(400, 5).__mod__(7).mean(1))

    def test_bad_input(self):
        path = self.folder / "bad.jsonl"
        for content, says in (("", "no line with a step and a loss"), ('{"done": true}\n', "no line with a step and a loss"), ('{"step": 1, "loss": 2}\nno json\n{"step": 2}\n', "line 2")):
            path.write_text(content)
            self.refused(3, [says, "bad.jsonl"], "loss", "--in", path)
        self.refused(3, "none.jsonl", "loss", "--in", self.folder / "none.jsonl")


class Checker(html.parser.HTMLParser):
    VOID = {"meta", "br", "img", "path", "use", "circle", "rect", "feFlood", "feComposite", "feflood", "fecomposite", "polygon", "line", "image"}

    def __init__(self):
        super().__init__()
        self.open, self.faults, self.ids, self.links, self.counts = [], [], set(), [], {}

    def handle_startendtag(self, tag, attributes):
        self.look(tag, attributes)

    def handle_starttag(self, tag, attributes):
        self.look(tag, attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()} closes something else")

    def look(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag in ("script", "link", "iframe", "object", "embed"):
            self.faults.append(f"<{tag}>")
        for name, value in attributes:
            if name == "id":
                if value in self.ids:
                    self.faults.append(f"id {value} twice")
                self.ids.add(value)
            if name in ("src", "href", "xlink:href", "data", "action", "srcset"):
                self.links.append(value)
            if name.startswith("on"):
                self.faults.append(f"{tag} {name}")


class Page(Program):
    def test_is_whole_in_itself(self):
        report = self.folder / "report"
        write_scores(self.folder / "s.bl", ["a<b", "c&d"], *drawn_scores(2, 300, 1, 1))
        for words in (["generation", "--reference", JETS, "--in", JETS, *QUICK], ["classification", "--in", self.folder / "s.bl"],
                      ["learning-curve", "--in", DATA / "curve.json"], ["loss", "--in", DATA / "train.jsonl"]):
            done = self.run_it(*words, "--out", report)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        page = (report / "report.html").read_text()
        checker = Checker()
        checker.feed(page)
        checker.close()
        self.assertEqual((checker.faults, checker.open), ([], []))
        for link in checker.links:
            self.assertTrue(link.startswith("data:image/png;base64,") or (link.startswith("#") and link[1:] in checker.ids), link)
        self.assertNotIn("http", page)
        self.assertNotIn("@import", page)
        self.assertEqual(re.findall(r"url\((?!#)", page), [])
        self.assertEqual(checker.counts["section"], 4)
        self.assertEqual(checker.counts["figure"], len(list((report / "figures").glob("*.svg"))))
        self.assertEqual(sorted(json.loads((report / "report.json").read_text())), ["classification", "format", "generation", "learning-curve", "loss"])
        # Every table of a figure is one of numbers.
        for path in (report / "figures").glob("*.dat"):
            table = np.loadtxt(path, ndmin=2)
            self.assertIn(table.shape[1], (7, 10), path)
            names = [line for line in path.read_text().splitlines() if re.match(r"# series \d+:", line)]
            self.assertEqual(len(names), len(set(table[:, 0])), path)
        # A script draws its picture again, where it lies.
        svg = report / "figures" / "loss_loss.svg"
        before = svg.read_bytes()
        svg.unlink()
        subprocess.run(["gnuplot", "-d", "loss_loss.gp"], cwd=report / "figures", check=True, timeout=60)
        self.assertEqual(svg.read_bytes(), before)


if __name__ == "__main__":
    unittest.main()
