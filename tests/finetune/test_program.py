"""bl-finetune and bl-score of taggers as their users run them."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import numpy as np

import beamline

sys.path.append(str(Path(os.environ["BEAMLINE_SOURCE"]) / "tests" / "python"))
from support import program  # noqa: E402

SMALL = ["--dim", "32", "--layers", "1", "--heads", "2", "--batch", "64", "--lr", "0.01", "--warmup", "10"]


class Finetune(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.scratch.name)
        cls.write_jets("jets.bl", 1500, 0)
        cls.write_jets("labelled_jets.bl", 900, 10_000)
        cls.write_jets("test_jets.bl", 600, 20_000)
        cls.call("bl-tokenize", "--fit", "kmeans", "--codes", "24", "--in", "jets.bl", "--save", "tok.h5")
        cls.call("bl-tokenize", "--fit", "kmeans", "--codes", "25", "--in", "jets.bl", "--save", "other.h5")
        for name in ("jets", "labelled_jets", "test_jets"):
            cls.call("bl-tokenize", "--with", "tok.h5", "--in", f"{name}.bl", "--out", name.replace("_jets", "").replace("jets", "tokens") + ".bl")
        cls.call("bl-tokenize", "--with", "other.h5", "--in", "labelled_jets.bl", "--out", "foreign.bl")
        cls.call("bl-train", "--objective", "next-token", *SMALL, "--in", "tokens.bl", "--save", "gpt.h5", "--epochs", "3")
        cls.call("bl-mask", "--in", "tokens.bl", "--out", "masked.bl")
        cls.call("bl-train", *SMALL, "--in", "masked.bl", "--save", "masked.h5", "--epochs", "1")

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    @classmethod
    def write_jets(cls, name, jets, first_event, processes=("q", "g", "Tbqq")):
        """Jets of three processes, two of each event. q has few constituents, Tbqq lies wide. The first jet is empty."""
        rng = np.random.default_rng([8, first_event])
        kind = np.arange(jets) % 3
        counts = np.where(kind == 0, rng.integers(4, 8, jets), rng.integers(9, 14, jets))
        counts[0] = 0
        n = int(counts.sum())
        event = np.repeat(np.arange(jets), counts)
        wide = np.where(kind[event] == 2, 0.5, 0.1)
        pt = rng.exponential(20, n).astype(np.float32) + 1
        pt = pt[np.lexsort((-pt, event))]
        with beamline.Writer(cls.folder / name, "particles/1", meta={"labels": {"0": "Tbqq", "1": "q", "2": "g"}}) as out:
            out.write({
                "event_index": np.arange(jets, dtype=np.uint64), "event_id": np.arange(jets, dtype=np.uint64) // 2 + first_event, "weight": np.ones(jets),
                **beamline.text_column("process", [processes[k % len(processes)] for k in kind]),
                "jet_eta": np.zeros(jets, np.float32), "jet_phi": np.zeros(jets, np.float32),
                "particle_offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32), "pt": pt,
                "eta": (wide * rng.normal(0, 1, n)).astype(np.float32), "phi": (wide * rng.normal(0, 1, n)).astype(np.float32), "mass": np.zeros(n, np.float32),
            })

    @classmethod
    def call(cls, name, *options, expect=0):
        done = subprocess.run([program(name), *options], cwd=cls.folder, capture_output=True, text=True, timeout=100)
        if done.returncode != expect:
            raise AssertionError(f"{name} {' '.join(options)}: {done.returncode}, not {expect}: {done.stderr}")
        return done.stderr if expect else done.stdout

    def digest(self, name):
        return self.call("bl-show", "--digest", name)

    def lines(self, name):
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def refuses(self, code, says, *options, program="bl-finetune"):
        errors = self.call(program, *options, expect=code)
        self.assertEqual(errors.count("\n"), 1, errors)
        for word in [says] if isinstance(says, str) else says:
            self.assertIn(word, errors)

    def tune(self, name, *options, mode="full", extra=("--epochs", "4")):
        self.call("bl-finetune", "--model", "gpt.h5", "--mode", mode, "--in", "labelled.bl", "--save", name, "--force", *extra, *options)

    def scores(self, tagger, *options):
        self.call("bl-score", "--model", tagger, "--in", "test.bl", "--out", "scores.bl", "--force", *options)
        return beamline.concat(list(beamline.read(self.folder / "scores.bl")))

    def accuracy(self, batch, names):
        p = np.stack([batch[f"score_{n}"] for n in names])
        known = batch["label"] >= 0
        return np.mean((p.argmax(0) == batch["label"])[known])

    def test_the_command_of_the_manual_and_its_scores(self):
        self.call("bl-finetune", "--model", "gpt.h5", "--mode", "full", "--in", "labelled.bl", "--save", "tagger.h5")
        scores = self.scores("tagger.h5")
        names = ["Tbqq", "q", "g"]  # in the order of the stream's labels
        meta = beamline.read(self.folder / "scores.bl").hello.meta
        self.assertEqual(meta["tagger"]["classes"], names)
        self.assertEqual(meta["labels"], {"0": "Tbqq", "1": "q", "2": "g"})
        self.assertEqual(len(meta["tagger"]["model"]), 16)
        self.assertGreater(self.accuracy(scores, names), 0.9)
        np.testing.assert_array_equal(scores["label"], np.tile([1, 2, 0], 200))
        logits = np.stack([scores[f"logit_{n}"] for n in names]).astype(float)
        p = np.exp(logits - logits.max(0))
        np.testing.assert_allclose(np.stack([scores[f"score_{n}"] for n in names]), p / p.sum(0), atol=1e-6)
        np.testing.assert_array_equal(scores["event_id"], np.arange(600) // 2 + 20_000)
        self.assertEqual(scores["token_offsets"][-1], 0)
        shown = self.call("bl-show", "tagger.h5")
        for word in ("kind: classification", '"name":"Tbqq"', "state:model/head: class-attention", '"mode":"full"'):
            self.assertIn(word, shown)

    def test_one_digest_for_any_number_of_threads_and_batches(self):
        for head in ("class-attention", "sum", "mean"):
            digests = set()
            for threads in ("1", "3"):
                self.tune("t.h5", "--head", head, "--threads", threads, extra=("--epochs", "2"))
                digests.add(self.digest("t.h5"))
                scores = self.scores("t.h5", "--threads", threads)
                digests.add(self.digest("scores.bl"))
            self.assertEqual(len(digests), 2, head)
            batch = beamline.concat(list(beamline.read(self.folder / "test.bl")))
            with beamline.Writer(self.folder / f"cut_{head}.bl", "tokens/2", meta=beamline.read(self.folder / "test.bl").hello.meta) as out:
                for first in range(0, 600, 7):
                    out.write(beamline.select(batch, np.arange(first, min(600, first + 7))))
            self.call("bl-score", "--model", "t.h5", "--in", f"cut_{head}.bl", "--out", "cut_scores.bl", "--force")
            self.assertIn(self.digest("cut_scores.bl"), digests)
            self.assertEqual(len(scores["label"]), 600)

    def test_classes_are_sums_of_processes(self):
        self.tune("two.h5", "--classes", "top=Tbqq,few=q", "--max-jets", "300")
        scores = self.scores("two.h5")
        self.assertEqual(set(scores["label"]), {0, 1, -1})
        self.tune("two.h5", "--classes", "top=Tbqq,qcd=q+g", "--max-jets", "300", "--log-level", "info", "--metrics", "two.json")
        self.assertGreater(self.accuracy(self.scores("two.h5"), ["top", "qcd"]), 0.85)
        weights = next(line["weights"] for line in self.lines("two.json") if "weights" in line)
        self.assertEqual(weights["skipped"]["names"], ["head/bias", "head/weight"])
        self.assertTrue(all(n.startswith("gpt/") for n in weights["loaded"]["names"]))
        self.assertTrue(all(n.startswith("tagger/") for n in weights["new"]["names"]))
        self.assertGreater(weights["loaded"]["parameters"], 10_000)

    def shown(self, name):
        """The rows of arrays that bl-show prints: name, type, shape and range."""
        rows = [line.split() for line in self.call("bl-show", name).splitlines() if line.startswith("weights/")]
        return {row[0]: row[1:] for row in rows}

    def test_modes_differ_in_what_they_train(self):
        pretrained = self.shown("gpt.h5")
        trunk = [n for n in pretrained if n.startswith("weights/gpt/") and n.endswith("/weight") and "norm" not in n]
        self.tune("frozen.h5", mode="frozen")
        frozen = self.shown("frozen.h5")
        self.assertTrue(all(frozen[n] == pretrained[n] for n in trunk))
        for mode in ("full", "scratch", "gradual"):
            self.tune("m.h5", mode=mode)
            now = self.shown("m.h5")
            self.assertTrue(all(now[n] != pretrained[n] for n in trunk), mode)
        # gradual: frozen to the end when that comes first
        self.tune("m.h5", "--frozen-epochs", "4", mode="gradual")
        now = self.shown("m.h5")
        self.assertTrue(all(now[n] == pretrained[n] for n in trunk))
        self.tune("random.h5", mode="scratch")
        self.tune("codes.h5", "--embedding", "codebook", "--tokenizer", "tok.h5", mode="scratch")
        self.assertNotEqual(self.shown("random.h5")["weights/gpt/token"], self.shown("codes.h5")["weights/gpt/token"])
        self.tune("m.h5", "--group", "gpt/token:rate=0", "--group", "tagger/*:rate=2")
        self.assertEqual(self.shown("m.h5")["weights/gpt/token"], pretrained["weights/gpt/token"])

    def test_a_head_that_reads_jet_variables(self):
        names = ["Tbqq", "q", "g"]
        self.tune("alone.h5", "--max-jets", "200")
        alone = self.scores("alone.h5")
        digests = set()
        for threads in ("1", "3"):
            self.tune("both.h5", "--max-jets", "200", "--jet-variables", "--threads", threads)
            digests.add(self.digest("both.h5"))
            both = self.scores("both.h5", "--threads", threads)
            digests.add(self.digest("scores.bl"))
        self.assertEqual(len(digests), 2)
        self.assertTrue(np.all(both["logit_Tbqq"] != alone["logit_Tbqq"]))
        # Mass and number of constituents are all there is to these jets, and few are needed to learn that.
        self.assertGreater(self.accuracy(both, names), max(0.9, self.accuracy(alone, names)))
        shown = self.call("bl-show", "both.h5")
        for word in ("state:model/variables: log_pt,mass,multiplicity,tau21,tau32", "state:model/variables/mass/scale: 0.", '"jet_variables":["log_pt"'):
            self.assertIn(word, shown)
        self.assertNotIn("variables", self.call("bl-show", "alone.h5"))
        # one jet alone, and jets that stop the training from another file
        batch = beamline.concat(list(beamline.read(self.folder / "test.bl")))
        with beamline.Writer(self.folder / "few.bl", "tokens/2", meta=beamline.read(self.folder / "test.bl").hello.meta) as out:
            for e in (0, 7, 300):
                out.write(beamline.select(batch, np.array([e])))
        self.call("bl-score", "--model", "both.h5", "--in", "few.bl", "--out", "few_scores.bl", "--force")
        few = beamline.concat(list(beamline.read(self.folder / "few_scores.bl")))
        np.testing.assert_array_equal(few["logit_q"], both["logit_q"][[0, 7, 300]])
        self.tune("v.h5", "--jet-variables", "--validation-in", "test.bl", extra=("--epochs", "2"))
        # frozen: the trunk alone is; groups name the branch; it is new beside any trunk
        pretrained = self.shown("gpt.h5")
        for options in (["--metrics", "frozen.json"], ["--group", "tagger/variables/*:freeze"]):
            self.tune("frozen.h5", "--jet-variables", *options, mode="frozen")
            frozen = self.shown("frozen.h5")
            self.assertEqual(frozen["weights/gpt/token"], pretrained["weights/gpt/token"])
            branch = {n: frozen[n] for n in frozen if n.startswith("weights/tagger/variables/")}
            self.assertEqual(len(branch), 6)
            if options[0] == "--metrics":
                trained = branch
        self.assertTrue(all(branch[n] != trained[n] for n in branch))
        weights = next(line["weights"] for line in self.lines("frozen.json") if "weights" in line)
        self.assertIn("tagger/variables/out/weight", weights["new"]["names"])

    def test_jet_variables_need_the_constituents(self):
        self.tune("both.h5", "--jet-variables", extra=("--epochs", "1"))
        batch = beamline.concat(list(beamline.read(self.folder / "test.bl")))
        with beamline.Writer(self.folder / "bare.bl", "tokens/2", meta=beamline.read(self.folder / "test.bl").hello.meta) as out:
            out.write({name: column for name, column in batch.items() if name not in ("pt", "eta", "phi")})
        says = "the tokens lack the column 'pt' of their constituents"
        self.refuses(3, ["bare.bl", "batch 0", "'both.h5' reads jet variables", says], "--model", "both.h5", "--in", "bare.bl", "--out", "no.bl", program="bl-score")
        self.assertFalse((self.folder / "no.bl").exists())
        self.refuses(3, ["bare.bl", says, "leave out --jet-variables"], "--model", "gpt.h5", "--in", "bare.bl", "--save", "no.h5", "--jet-variables")
        self.refuses(3, ["bare.bl", says], "--model", "gpt.h5", "--in", "labelled.bl", "--validation-in", "bare.bl", "--save", "no.h5", "--jet-variables")
        self.tune("alone.h5", extra=("--epochs", "1"))
        self.call("bl-score", "--model", "alone.h5", "--in", "bare.bl", "--out", "bare_scores.bl", "--force")

    def test_a_learning_curve_of_heads_that_read_jet_variables(self):
        modes = ["jet-variables", "full+variables", "scratch+variables"]
        run = [*self.CURVE, "--learning-curve", "60", "--modes", ",".join(["full", *modes]), "--seeds", "2"]
        table = self.call("bl-finetune", *run, "--report", "both.json", "--threads", "3")
        points = json.loads((self.folder / "both.json").read_text())["points"]
        self.assertEqual([(p["mode"], p["seed"]) for p in points], [(m, s) for m in ("full", *modes) for s in (1, 2)])
        for mode in modes:
            self.assertIn(mode, table)
        auc = {(p["mode"], p["seed"]): p["auc"] for p in points}
        self.assertTrue(all(auc["full+variables", s] not in (auc["full", s], auc["jet-variables", s]) for s in (1, 2)))
        self.call("bl-finetune", *run, "--report", "both_one.json")
        strip = lambda points: [{k: v for k, v in p.items() if k != "seconds"} for p in points]  # noqa: E731
        self.assertEqual(strip(json.loads((self.folder / "both_one.json").read_text())["points"]), strip(points))
        # At no rate worth the name they stay what they begin as: the network on jet variables.
        self.call("bl-finetune", *run, "--report", "still.json", "--lr", "1e-12")
        still = {(p["mode"], p["seed"]): p for p in json.loads((self.folder / "still.json").read_text())["points"]}
        for mode in modes:
            for seed in (1, 2):
                for key in ("auc", "accuracy"):
                    self.assertAlmostEqual(still[mode, seed][key], still["jet-variables", seed][key], places=3)
        self.assertNotAlmostEqual(still["full", 1]["auc"], still["jet-variables", 1]["auc"], places=3)
        self.refuses(2, "are among --modes", *run, "--report", "no.json", "--jet-variables")

    def test_a_file_that_stops_the_training(self):
        self.tune("t.h5", "--validation-in", "test.bl", "--log-level", "info", "--metrics", "v.json")
        self.assertTrue(any("stopping_accuracy" in line for line in self.lines("v.json")))
        self.refuses(3, "the event 10000 is in", "--model", "gpt.h5", "--in", "labelled.bl", "--validation-in", "labelled.bl", "--save", "no.h5")

    def test_kill_and_resume_give_the_same_tagger(self):
        options = ["--model", "gpt.h5", "--mode", "gradual", "--in", "labelled.bl", "--epochs", "60", "--patience", "0", "--dropout", "0.1", "--seed", "5"]
        for number, code, *more in ((signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGTERM, 143, "--jet-variables")):
            with self.subTest(signal=number, more=more):
                self.call("bl-finetune", *options, *more, "--save", "whole.h5", "--force")
                process = subprocess.Popen([program("bl-finetune"), *options, *more, "--save", "cut.h5", "--force", "--checkpoint-every", "3"], cwd=self.folder,
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                deadline = time.monotonic() + 60
                while not (self.folder / "cut.h5.part.h5").exists() and time.monotonic() < deadline:
                    time.sleep(0.002)
                process.send_signal(number)
                self.assertEqual(process.wait(timeout=60), code)
                self.refuses(2, "jet variables: go on with", *options, *(() if more else ("--jet-variables",)), "--save", "no.h5", "--resume", "cut.h5.part.h5")
                self.call("bl-finetune", *options, *more, "--save", "cut.h5", "--force", "--resume", "cut.h5.part.h5", "--threads", "2")
                self.assertEqual(self.digest("cut.h5"), self.digest("whole.h5"))
                self.assertFalse((self.folder / "cut.h5.part.h5").exists())

    def test_what_does_not_belong_together_is_refused(self):
        run = ["--model", "gpt.h5", "--in", "labelled.bl", "--save", "no.h5"]
        ours, theirs = (beamline.read(self.folder / f).hello.meta["tokenizer"]["hash"] for f in ("tokens.bl", "foreign.bl"))
        self.refuses(3, [ours, theirs], "--model", "gpt.h5", "--in", "foreign.bl", "--save", "no.h5")
        self.refuses(3, [ours, theirs], *run, "--mode", "scratch", "--embedding", "codebook", "--tokenizer", "other.h5")
        self.refuses(3, "kind 'masked-token', not 'next-token'", "--model", "masked.h5", "--in", "labelled.bl", "--save", "no.h5")
        for process, says in (("", "no event names its process"), ("q", "all jets are of the process 'q'")):
            self.write_jets(f"some{process}.bl", 60, 40_000, (process,))
            self.call("bl-tokenize", "--with", "tok.h5", "--in", f"some{process}.bl", "--out", "some_tokens.bl", "--force")
            self.refuses(3, says, "--model", "gpt.h5", "--in", "some_tokens.bl", "--save", "no.h5")
        self.refuses(3, "no jet is of the class 'Hbb'", *run, "--classes", "q,Hbb")
        self.refuses(2, "names 'q' alone", *run, "--classes", "q")
        self.refuses(2, "belongs to --mode scratch", *run, "--embedding", "codebook", "--tokenizer", "tok.h5")
        self.refuses(2, "needs --tokenizer", *run, "--mode", "scratch", "--embedding", "codebook")
        self.refuses(2, "--save is required", "--model", "gpt.h5", "--in", "labelled.bl")
        self.refuses(2, "matches no parameter", *run, "--group", "encoder/*:rate=1")
        self.tune("t.h5", extra=("--epochs", "1"))
        self.refuses(3, [ours, theirs], "--model", "t.h5", "--in", "foreign.bl", "--out", "no.bl", program="bl-score")
        self.refuses(2, "is a tagger", "--model", "t.h5", "--in", "test.bl", "--out", "no.bl", "--slim", program="bl-score")
        self.refuses(3, "kind 'classification'", "--model", "t.h5", "--in", "labelled.bl", "--save", "no.h5")
        damaged = bytearray((self.folder / "t.h5").read_bytes())
        damaged[len(damaged) // 2] ^= 0x40
        (self.folder / "damaged.h5").write_bytes(damaged)
        self.call("bl-score", "--model", "damaged.h5", "--in", "test.bl", "--out", "no.bl", expect=3)
        self.assertFalse((self.folder / "no.h5").exists())

    CURVE = ["--model", "gpt.h5", "--in", "labelled.bl", "--test", "test.bl", "--classes", "top=Tbqq,qcd=q+g", "--tokenizer", "tok.h5", "--epochs", "3"]

    def test_a_learning_curve_goes_on_where_it_stopped(self):
        report = self.folder / "curve.json"
        self.call("bl-finetune", *self.CURVE, "--learning-curve", "30,90", "--seeds", "2", "--modes", "full,jet-variables", "--report", "curve.json", "--threads", "3")
        first = json.loads(report.read_text())
        self.assertEqual((first["format"], first["classes"], first["test_jets"]), ("beamline.learning_curve/1", ["top", "qcd"], 600))
        self.assertEqual([(p["mode"], p["jets"], p["seed"]) for p in first["points"]],
                         [(m, n, s) for m in ("full", "jet-variables") for n in (30, 90) for s in (1, 2)])
        self.assertTrue(all(p["stopping_jets"] == 100 and 0.4 < p["auc"] <= 1 and p["epochs"] > 0 for p in first["points"]))
        table = self.call("bl-finetune", *self.CURVE, "--learning-curve", "30,90,120", "--seeds", "2", "--report", "curve.json")
        second = json.loads(report.read_text())
        self.assertEqual(len(second["points"]), 5 * 3 * 2)
        for p in first["points"]:
            self.assertIn(p, second["points"])  # seconds and all: it was not done again
        for word in ("frozen", "scratch-codebook", "jet-variables", "±", "jets needed for the same AUC"):
            self.assertIn(word, table)
        self.refuses(2, "was begun with rate", *self.CURVE, "--learning-curve", "30", "--lr", "0.5", "--report", "curve.json")
        # what may be replaced begins anew; with the settings that it was begun with it is gone on with
        shutil.copy(report, self.folder / "replaced.json")
        other = ["--learning-curve", "30", "--modes", "jet-variables", "--seeds", "2", "--report", "replaced.json", "--force"]
        self.call("bl-finetune", *self.CURVE, *other)
        self.assertEqual(json.loads((self.folder / "replaced.json").read_text())["points"], second["points"])
        self.call("bl-finetune", *self.CURVE, *other, "--lr", "0.5")
        self.assertEqual([(p["mode"], p["jets"]) for p in json.loads((self.folder / "replaced.json").read_text())["points"]], [("jet-variables", 30)] * 2)
        # by one thread the same points
        self.call("bl-finetune", *self.CURVE, "--learning-curve", "30,90", "--seeds", "2", "--modes", "full,jet-variables", "--report", "one.json")
        again = json.loads((self.folder / "one.json").read_text())
        strip = lambda points: [{k: v for k, v in p.items() if k != "seconds"} for p in points]  # noqa: E731
        self.assertEqual(strip(again["points"]), strip(first["points"]))

    def test_a_learning_curve_keeps_its_points_when_it_is_stopped(self):
        command = [program("bl-finetune"), *self.CURVE[:-2], "--learning-curve", "60,150", "--seeds", "8", "--modes", "full", "--report", "stopped.json", "--epochs", "30",
                   "--patience", "0"]
        process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (self.folder / "stopped.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=60), 143)
        points = json.loads((self.folder / "stopped.json").read_text())["points"]
        self.assertTrue(0 < len(points) < 16, len(points))

    def test_a_learning_curve_refuses_what_would_flatter_it(self):
        run = ["--model", "gpt.h5", "--in", "labelled.bl", "--learning-curve", "30", "--report", "no.json"]
        self.refuses(3, "the event 10000 is in", *run, "--test", "labelled.bl", "--modes", "full")
        self.refuses(2, "needs --tokenizer", *run, "--test", "test.bl")
        self.refuses(2, "needs --test", *run)
        self.refuses(2, "has no meaning with --learning-curve", *run, "--test", "test.bl", "--mode", "frozen")
        self.refuses(2, "belongs to --learning-curve", "--model", "gpt.h5", "--in", "labelled.bl", "--save", "no.h5", "--seeds", "3")
        self.refuses(2, "is not a number of jets", *run[:5], "many", *run[6:], "--test", "test.bl", "--modes", "full")
        self.refuses(3, "800 jets are to be trained on", *run[:5], "800", *run[6:], "--test", "test.bl", "--modes", "full", "--classes", "top=Tbqq,qcd=q+g")


if __name__ == "__main__":
    unittest.main()
