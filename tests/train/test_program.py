"""bl-train as its users run it: epochs over a file, one pass over a pipe, interruption and resume."""
import json
import os
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

VOCABULARY = 60
TOKENIZER = {"hash": "00000000000000aa", "vocabulary": VOCABULARY, "mask": VOCABULARY - 1, "positions": 16}
SMALL = {"--dim": "16", "--layers": "2", "--heads": "2", "--batch": "64", "--warmup": "10", "--lr": "0.005", "--seed": "5"}


def command(options):
    """bl-train with the small model, as far as the options do not say otherwise."""
    return [program("bl-train"), *(word for pair in SMALL.items() if pair[0] not in options for word in pair), *options]


def columns(events, seed=6):
    """Tokens that follow from their neighbours: (first + 3 i) mod 50; one of them hidden."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(4, 14, events)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    position = np.concatenate([np.arange(c) for c in counts])
    token = (np.repeat(rng.integers(0, 50, events), counts) + 3 * position) % 50
    mask = np.zeros(len(token), np.uint8)
    mask[offsets[:-1] + rng.integers(0, counts)] = 1
    return {
        "event_index": np.arange(events, dtype=np.uint64),
        "event_id": np.arange(events, dtype=np.uint64),
        "weight": np.ones(events),
        **beamline.text_column("process", ["tt"] * events),
        "token_offsets": offsets.astype(np.uint32),
        "token": token.astype(np.int32),
        "position": position.astype(np.uint16),
        "category": np.ones(len(token), np.uint8),
        "mask": mask,
    }


class Train(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.write("masked.bl", 1500)

    def write(self, name, events, meta=TOKENIZER, **changes):
        with beamline.Writer(self.folder / name, "masked/1", meta={"tokenizer": meta, "mask": {"mode": "one", "seed": 1}}) as out:
            whole = {**columns(events), **changes}
            out.write(whole)

    def run_train(self, *options, stdin=None, expect=0):
        done = subprocess.run(command(options), cwd=self.folder, stdin=stdin, capture_output=True, text=True, timeout=100)
        self.assertEqual(done.returncode, expect, done.stderr)
        return done.stderr

    def digest(self, name):
        return subprocess.run([program("bl-show"), "--digest", name], cwd=self.folder, capture_output=True, text=True, check=True).stdout

    def lines(self, name):
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def test_learns_and_reports(self):
        self.run_train("--in", "masked.bl", "--save", "m.h5", "--epochs", "12", "--metrics", "m.json", "--threads", "2")
        lines = self.lines("m.json")
        epochs = [line for line in lines if "epoch_done" in line]
        self.assertEqual([e["epoch_done"] for e in epochs], list(range(12)))
        self.assertAlmostEqual(epochs[-1]["unigram_entropy"], np.log(50), delta=0.02)
        self.assertLess(epochs[-1]["validation_loss"], 0.6 * epochs[-1]["unigram_entropy"])
        steps = [line for line in lines if "gradient_norm" in line]
        self.assertTrue(all(s["tokens_per_second"] > 0 and np.isfinite(s["loss"]) for s in steps))
        self.assertTrue(lines[-1]["done"])

    def test_one_digest_for_any_number_of_threads(self):
        digests = set()
        for threads in ("1", "2", "3"):
            self.run_train("--in", "masked.bl", "--save", f"m{threads}.h5", "--epochs", "2", "--threads", threads)
            digests.add(self.digest(f"m{threads}.h5"))
        self.assertEqual(len(digests), 1)
        self.run_train("--in", "masked.bl", "--save", "other.h5", "--epochs", "2", "--seed", "6")
        self.assertNotIn(self.digest("other.h5"), digests)

    def interrupt(self, number, options):
        """Starts a training, sends the signal once a checkpoint is there, returns the exit code."""
        # enough epochs that it is not over before the signal comes
        process = subprocess.Popen(command(options), cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not (self.folder / "m.h5.part.h5").exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        self.assertTrue((self.folder / "m.h5.part.h5").exists())
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        self.assertFalse((self.folder / "m.h5").exists(), "the signal came after the end")
        return process.returncode, errors

    def test_kill_and_resume_give_the_same_weights(self):
        options = ["--in", "masked.bl", "--epochs", "30", "--dropout", "0.1", "--ema", "0.9"]
        self.run_train(*options, "--save", "whole.h5")
        code, _ = self.interrupt(signal.SIGKILL, [*options, "--save", "m.h5", "--checkpoint-every", "7"])
        self.assertEqual(code, -signal.SIGKILL)
        self.run_train(*options, "--save", "m.h5", "--resume", "m.h5.part.h5", "--checkpoint-every", "7", "--threads", "2")
        self.assertEqual(self.digest("m.h5"), self.digest("whole.h5"))
        self.assertFalse((self.folder / "m.h5.part.h5").exists())

    def test_sigterm_saves_and_resume_gives_the_same_weights(self):
        options = ["--in", "masked.bl", "--epochs", "30", "--validation", "0.2"]
        self.run_train(*options, "--save", "whole.h5")
        code, errors = self.interrupt(signal.SIGTERM, [*options, "--save", "m.h5", "--checkpoint-every", "5"])
        self.assertEqual(code, 143)
        self.assertIn("go on with --resume m.h5.part.h5", errors)
        self.run_train(*options, "--save", "m.h5", "--resume", "m.h5.part.h5")
        self.assertEqual(self.digest("m.h5"), self.digest("whole.h5"))

    def test_one_pass_over_a_pipe(self):
        with open(self.folder / "masked.bl") as stream:
            self.run_train("--save", "m.h5", "--metrics", "m.json", stdin=stream)
        # standard input that is a file can be read once only, like a pipe
        lines = self.lines("m.json")
        validation = sum(line.get("validation_events", 0) for line in lines)
        self.assertAlmostEqual(validation, 150, delta=40)
        self.assertEqual(lines[-1]["events"], 1500)
        self.assertEqual(max(line.get("steps", 0) for line in lines), -(-(1500 - validation) // 64))
        piped = subprocess.Popen(["cat", "masked.bl"], cwd=self.folder, stdout=subprocess.PIPE)
        self.run_train("--save", "p.h5", stdin=piped.stdout)
        piped.stdout.close()
        piped.wait()
        self.assertEqual(self.digest("p.h5"), self.digest("m.h5"))

    def test_sigterm_while_waiting_for_a_pipe_saves_a_checkpoint(self):
        process = subprocess.Popen(command(["--save", "m.h5", "--metrics", "m.json"]), cwd=self.folder, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        # two of three batches: after some steps the program waits
        batch = beamline.concat(list(beamline.read(self.folder / "masked.bl")))
        with beamline.Writer(self.folder / "three.bl", "masked/1", meta={"tokenizer": TOKENIZER, "mask": {"mode": "one", "seed": 1}}) as out:
            for i in range(0, 1500, 500):
                out.write(beamline.select(batch, np.arange(i, i + 500)))
        whole = (self.folder / "three.bl").read_bytes()
        process.stdin.write(whole[:len(whole) * 5 // 6])
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not (self.folder / "m.json").exists() or "loss" not in (self.folder / "m.json").read_text():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=60), 143)  # communicate() would close the pipe
        process.stdin.close()
        process.stderr.close()
        self.assertTrue((self.folder / "m.h5.part.h5").exists())
        with open(self.folder / "masked.bl") as stream:
            self.run_train("--save", "m.h5", "--resume", "m.h5.part.h5", stdin=stream)

    def test_a_pipe_has_one_epoch_unless_collected(self):
        with open(self.folder / "masked.bl") as stream:
            errors = self.run_train("--save", "m.h5", "--epochs", "3", stdin=stream, expect=2)
        self.assertIn("can be read once only", errors)
        with open(self.folder / "masked.bl") as stream:
            self.run_train("--save", "m.h5", "--epochs", "3", "--collect", stdin=stream)
        self.run_train("--in", "masked.bl", "--save", "f.h5", "--epochs", "3")
        self.assertEqual(self.digest("m.h5"), self.digest("f.h5"))

    def test_resume_needs_the_same_input_settings_and_codebook(self):
        self.run_train("--in", "masked.bl", "--save", "m.h5", "--epochs", "1")
        self.write("more.bl", 1600)
        self.write("foreign.bl", 1500, meta={**TOKENIZER, "hash": "00000000000000bb"})
        errors = self.run_train("--in", "more.bl", "--save", "n.h5", "--epochs", "2", "--resume", "m.h5", expect=3)
        self.assertIn("started with 1500 events, now there are 1600", errors)
        errors = self.run_train("--in", "foreign.bl", "--save", "n.h5", "--epochs", "2", "--resume", "m.h5", expect=3)
        self.assertIn("codebook 00000000000000aa", errors)
        errors = self.run_train("--in", "masked.bl", "--save", "n.h5", "--epochs", "2", "--resume", "m.h5", "--lr", "0.01", expect=2)
        self.assertIn("rate 0.005, now it is 0.01", errors)
        errors = self.run_train("--in", "masked.bl", "--save", "n.h5", "--epochs", "2", "--resume", "m.h5", "--dim", "32", expect=2)
        self.assertIn("dim 16, the command line says 32", errors)
        self.assertFalse((self.folder / "n.h5").exists())
        self.run_train("--in", "masked.bl", "--save", "n.h5", "--epochs", "2", "--resume", "m.h5")

    def test_redrawn_masks_differ_from_kept_ones(self):
        for masks in ("keep", "redraw"):
            self.run_train("--in", "masked.bl", "--save", f"{masks}.h5", "--epochs", "2", "--masks", masks)
            self.run_train("--in", "masked.bl", "--save", f"{masks}1.h5", "--epochs", "1", "--masks", masks)
        self.assertNotEqual(self.digest("keep.h5"), self.digest("redraw.h5"))
        self.assertEqual(self.digest("keep1.h5"), self.digest("redraw1.h5"))

    def test_bad_input_is_named(self):
        token = columns(100)["token"].copy()
        token[3] = 77
        self.write("large.bl", 100, token=token)
        errors = self.run_train("--in", "large.bl", "--save", "m.h5", expect=3)
        self.assertIn("token 77 at position", errors)
        self.write("bare.bl", 100, meta={})
        errors = self.run_train("--in", "bare.bl", "--save", "m.h5", expect=3)
        self.assertIn("do not say their vocabulary", errors)
        with beamline.Writer(self.folder / "none.bl", "masked/1", meta={"tokenizer": TOKENIZER}):
            pass
        errors = self.run_train("--in", "none.bl", "--save", "m.h5", expect=3)
        self.assertIn("no event to train on", errors)
        self.assertEqual(self.run_train("--in", "masked.bl", "--save", "m.h5", "--heads", "3", expect=2).count("not a multiple of heads 3"), 1)
        errors = self.run_train("--in", "masked.bl", "--save", "m.h5", "--epochs", "1", "--resume", "masked.bl", expect=3)
        self.assertIn("masked.bl", errors)
        self.assertEqual(sorted(p.name for p in self.folder.glob("m.h5*")), [])

    def test_a_diverging_training_stops(self):
        errors = self.run_train("--in", "masked.bl", "--save", "m.h5", "--epochs", "40", "--lr", "10", "--clip", "0", "--warmup", "0", "--decay", "10", "--schedule", "constant",
                                expect=1)
        self.assertRegex(errors, r"step \d+: the loss is")
        self.assertFalse((self.folder / "m.h5").exists())


if __name__ == "__main__":
    unittest.main()
