#!/usr/bin/env python3
"""pipelines/anomaly.toml on samples/anomaly: the same weights twice, what runs again, and what the scores separate.

usage: test_anomaly.py SOURCE_DIR BIN_DIR
"""
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

BIN = Path(sys.argv.pop()).resolve()
SOURCE = Path(sys.argv.pop()).resolve()
SECONDS = 300  # of the whole chain on 2 cores

MAKEFILE = """SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
RUN ?=
include plan.mk
all: $(plan.targets)
"""


class Anomaly(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.top = Path(scratch.name)
        (self.top / "samples").symlink_to(SOURCE / "samples")
        (self.top / "pipelines").mkdir()
        (self.top / "pipelines/recipes").symlink_to(SOURCE / "pipelines/recipes")
        (self.top / "Makefile").write_text(MAKEFILE)
        self.text = (SOURCE / "pipelines/anomaly.toml").read_text()

    def call(self, *command):
        environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
        environment.pop("MAKEFLAGS", None)
        done = subprocess.run(command, cwd=self.top, env=environment, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def run_it(self):
        """Plans and makes; returns the segments that ran."""
        (self.top / "pipelines/anomaly.toml").write_text(self.text)
        self.call("bl-plan", "--in", "pipelines/anomaly.toml", "--make", "plan.mk")
        made = self.call("make", "all")
        return [line.split("/")[1] for line in made.splitlines() if line.startswith("anomaly/")]

    def auc(self):
        """(signal, score) -> AUC and its bootstrap error, in the signal region."""
        report = json.loads((self.top / "runs/anomaly/report.json").read_text())
        return {(row["signal"], row["score"]): (row["auc"]["value"], row["auc"]["spread"]["error"]) for row in report["comparison"]}

    def test_chain(self):
        begin = time.monotonic()
        self.assertEqual(len(self.run_it()), 10)
        self.assertLess(time.monotonic() - begin, SECONDS)
        first = self.call("bl-show", "--digest", "runs/anomaly/model.h5")

        auc = self.auc()
        for signal, least in {"ttA500": 0.75, "gluino-4top": 0.83}.items():
            value, error = auc[signal, "mean_logp"]
            self.assertGreater(value - error, least, signal)
            # the network knows more than the frequencies of the tokens, averaged in the same way
            self.assertGreater(value, auc[signal, "unigram_mean_logp"][0] - 2 * error, signal)
        for trivial in ("n_objects", "ht", "met"):
            self.assertIn(("ttA500", trivial), auc)

        anomalies = (self.top / "runs/anomaly/anomalies.txt").read_text()
        self.assertIn("most anomalous of", anomalies)

        self.assertEqual(self.run_it(), [])
        self.text = self.text.replace('score = "mean_logp"', 'score = "sum_logp"')
        self.assertEqual(sorted(self.run_it()), ["anomalies", "fit_threshold"])

        (self.top / "runs/anomaly/model.h5").unlink()
        self.text = self.text.replace('score = "sum_logp"', 'score = "mean_logp"')
        self.assertIn("train", self.run_it())
        self.assertEqual(self.call("bl-show", "--digest", "runs/anomaly/model.h5"), first)

    def test_another_seed(self):
        self.text = self.text.replace("seed = 5", "seed = 6")
        self.run_it()
        auc = self.auc()
        self.assertGreater(auc["ttA500", "mean_logp"][0], 0.75)
        self.assertGreater(auc["gluino-4top", "mean_logp"][0], 0.83)


if __name__ == "__main__":
    unittest.main()
