"""OmniJet-α from jets to a tagger.

Commands: the commands of the chain one by one, small, on samples/jets.bl, with what must come out right at that size.
Demo (slow): pipelines/omnijet.toml as `make -f Makefile.workflow omnijet-demo` runs it, with Pythia's jets.
"""
import json
import math
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import numpy as np

import beamline

SOURCE = Path(os.environ["BEAMLINE_SOURCE"])
BIN = Path(os.environ["BEAMLINE_BIN"])

MAKEFILE = """SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
RUN ?=
include plan.mk
all: $(plan.targets)
"""


def jets_of(path):
    """Process, mass (massless constituents, GeV) and number of constituents of each jet."""
    process, mass, count = [], [], []
    for batch in beamline.read(path):
        offsets = batch["particle_offsets"].astype(np.int64)
        pt, eta, phi = (batch[name].astype(np.float64) for name in ("pt", "eta", "phi"))
        parts = np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)])
        sums = np.concatenate([np.zeros((4, 1)), np.cumsum(parts, axis=1)], axis=1)
        e, x, y, z = sums[:, offsets[1:]] - sums[:, offsets[:-1]]
        mass.append(np.sqrt(np.maximum(e * e - x * x - y * y - z * z, 0)))
        count.append(np.diff(offsets))
        process += batch.text("process")
    return np.array(process), np.concatenate(mass), np.concatenate(count)


class Case(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.top = Path(scratch.name)

    def call(self, *command, expect=0, stdin=None):
        environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
        environment.pop("MAKEFLAGS", None)
        done = subprocess.run(command, cwd=self.top, env=environment, capture_output=True, text=True, stdin=stdin)
        self.assertEqual(done.returncode, expect, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def sh(self, text):
        return self.call("bash", "-eu", "-o", "pipefail", "-c", text)

    def report(self, folder, kind):
        return json.loads((self.top / folder / "report.json").read_text())[kind]


class Shipped(Case):
    def test_every_pipeline_is_sound(self):
        for folder in ("samples", "pipelines"):
            (self.top / folder).symlink_to(SOURCE / folder)
        for path in sorted((SOURCE / "pipelines").glob("*.toml")):
            self.assertIn("no problems", self.call("bl-plan", "--check", f"pipelines/{path.name}"), path.name)


class Commands(Case):
    def setUp(self):
        super().setUp()
        (self.top / "jets.bl").symlink_to(SOURCE / "samples/jets.bl")

    def test_chain(self):
        self.sh("""
bl-split --parts pre.bl=0.8,labelled_jets.bl=0.1,test_jets.bl=0.1 --in jets.bl
bl-tokenize --fit vqvae-conditional --codes 512 --dim 32 --layers 1 --epochs 4 --threads 2 --in jets.bl --save tok.h5
bl-tokenize --with tok.h5 --in jets.bl --out tokens.bl ; bl-tokenize --with tok.h5 --decode --in tokens.bl --out back.bl
bl-tokenize --fit kmeans --codes 4096 --weights sqrt-pt --threads 2 --in jets.bl --save km.h5
bl-tokenize --with km.h5 --in jets.bl --out km_tokens.bl ; bl-tokenize --with km.h5 --decode --in km_tokens.bl --out km_back.bl
bl-train --objective next-token --dim 64 --heads 4 --layers 2 --epochs 20 --batch 32 --lr 3e-3 --threads 2 --in tokens.bl --save gpt.h5
bl-generate --model gpt.h5 --n 1000 --seed 3 --threads 2 | bl-tokenize --with tok.h5 --decode --out generated.bl
bl-evaluate generation --reference jets.bl --in generated.bl --out report/ --draws 1000 --replicas 4 --classifiers none
bl-tokenize --with tok.h5 --in labelled_jets.bl,pre.bl --out labelled.bl ; bl-tokenize --with tok.h5 --in test_jets.bl --out test.bl
bl-finetune --model gpt.h5 --mode full --classes top=Tbqq,qcd=QCD-q+QCD-g --epochs 8 --in labelled.bl --save tagger.h5 --threads 2
bl-score --model tagger.h5 --in test.bl --out scores.bl
bl-evaluate classification --in scores.bl --out report/
""")
        process, mass, count = jets_of(self.top / "jets.bl")
        top = process == "Tbqq"
        for back, limit in (("back.bl", 0.15), ("km_back.bl", 0.02)):
            _, decoded, kept = jets_of(self.top / back)
            self.assertGreater(kept.sum(), 0.99 * count.sum(), back)  # the others are too far out for the tokenizer, as it says
            self.assertLess(abs(np.median(decoded[top]) / np.median(mass[top]) - 1), limit, back)  # the peak of the top quark; 900 jets teach a VQ-VAE little
            self.assertLess(np.median(abs(decoded / np.maximum(mass, 1) - 1)), 2 * limit, back)
        _, made_mass, made_count = jets_of(self.top / "generated.bl")
        self.assertEqual(len(made_count), 1000)
        self.assertLess(abs(made_count.mean() / count.mean() - 1), 0.15)  # 5 % of the demo wants more jets than these
        self.assertGreater(len(np.unique(made_mass)), 990)
        page = (self.top / "report/report.html").read_text()
        for word in ("Generated jets", "FPD", "AUC of top", "bl-evaluate --"):
            self.assertTrue(word in page, word)
        self.assertGreater(self.report("report", "classification")["taggers"]["scores"]["auc"]["value"], 0.6)  # of 31 test jets


@unittest.skipUnless(os.environ.get("BEAMLINE_DEMO"), "takes ten minutes: make -f Makefile.workflow slow")
class Demo(Case):
    def setUp(self):
        super().setUp()
        (self.top / "pipelines").mkdir()
        (self.top / "Makefile").write_text(MAKEFILE)
        (self.top / "pipelines/omnijet.toml").write_text((SOURCE / "pipelines/omnijet.toml").read_text())

    def run_it(self):
        self.call("bl-plan", "--in", "pipelines/omnijet.toml", "--make", "plan.mk")
        made = self.call("make", "all")
        return [line.split("/")[1] for line in made.splitlines() if line.startswith("omnijet/")]

    def test_demo(self):
        self.assertEqual(len(self.run_it()), 16)
        self.assertEqual(self.run_it(), [])
        run = self.top / "runs/omnijet"
        process, mass, count = jets_of(run / "test.bl")
        self.call("bl-tokenize", "--with", "runs/omnijet/tokens.h5", "--decode", "--in", "runs/omnijet/test_tokens.bl", "--out", "back.bl")
        _, decoded, _ = jets_of(self.top / "back.bl")
        top = process == "Tbqq"
        self.assertLess(abs(np.median(decoded[top]) / np.median(mass[top]) - 1), 0.02)
        _, made_mass, made_count = jets_of(run / "generated.bl")
        self.assertLess(abs(made_count.mean() / count.mean() - 1), 0.05)
        self.assertLess(abs(np.median(made_mass) / np.median(mass) - 1), 0.25)  # what ten minutes teach least: docs/results.md
        for folder in ("token_quality", "generation_quality", "tagging", "learning_curve"):
            self.assertTrue((run / folder / "report.html").exists(), folder)
        points = json.loads((run / "curve.json").read_text())["points"]
        auc = {}
        for p in points:
            auc.setdefault((p["mode"], p["jets"]), []).append(p["auc"])
        mean = {key: np.mean(values) for key, values in auc.items()}
        error = {key: np.std(values, ddof=1) / math.sqrt(len(values)) for key, values in auc.items()}
        for jets in (300, 1000):  # what was pre-trained needs fewer jets than what was not
            self.assertGreater(mean["full", jets] - mean["scratch", jets], 2 * math.hypot(error["full", jets], error["scratch", jets]), jets)

