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

    def test_every_optimiser_resumes_to_the_same_weights_after_a_kill(self):
        variants = {
            "lion": ["--optimizer", "lion", "--lr", "0.0005", "--schedule", "one-cycle", "--warmup", "-1", "--group", "encoder/0/*:rate=0.5,warmup=20"],
            "sgd": ["--optimizer", "sgd", "--nesterov", "--lr", "0.1", "--schedule", "inverse-sqrt", "--batch", "16", "--accumulate", "4",
                    "--group", "encoder/*:decay=0,freeze=0.5"],
        }
        for name, extra in variants.items():
            with self.subTest(name):
                options = ["--in", "masked.bl", "--epochs", "30", *extra]
                self.run_train(*options, "--save", f"{name}.h5")
                (self.folder / "m.h5").unlink(missing_ok=True)
                code, _ = self.interrupt(signal.SIGKILL, [*options, "--save", "m.h5", "--checkpoint-every", "7"])
                self.assertEqual(code, -signal.SIGKILL)
                self.run_train(*options, "--save", "m.h5", "--resume", "m.h5.part.h5", "--checkpoint-every", "7", "--threads", "2")
                self.assertEqual(self.digest("m.h5"), self.digest(f"{name}.h5"))

    def test_settings_that_change_the_bits_are_refused_at_resume(self):
        self.run_train("--in", "masked.bl", "--save", "m.h5", "--epochs", "1")
        for changed, message in ((["--optimizer", "lion"], "optimizer adamw, now it is lion"), (["--schedule", "constant"], "schedule cosine, now it is constant"),
                                 (["--accumulate", "2"], "accumulate 1, now it is 2"), (["--beta2", "0.95"], "beta2 0, now it is 0.95"),
                                 (["--group", "head/*:rate=2"], "groups none, now it is head/*:rate=2")):
            self.assertIn(message, self.run_train("--in", "masked.bl", "--save", "n.h5", "--epochs", "2", "--resume", "m.h5", *changed, expect=2))

    def test_accumulated_batches_are_one_large_batch(self):
        self.run_train("--in", "masked.bl", "--save", "large.h5", "--epochs", "2", "--shard", "8")
        self.run_train("--in", "masked.bl", "--save", "several.h5", "--epochs", "2", "--shard", "8", "--batch", "16", "--accumulate", "4")
        self.assertEqual(self.digest("several.h5"), self.digest("large.h5"))
        with open(self.folder / "masked.bl") as stream:
            self.run_train("--save", "pipe.h5", "--batch", "16", "--accumulate", "4", stdin=stream)
        with open(self.folder / "masked.bl") as stream:
            self.run_train("--save", "pipe64.h5", stdin=stream)
        self.assertEqual(self.digest("pipe.h5"), self.digest("pipe64.h5"))

    def test_groups_are_read_from_options_and_config_files(self):
        self.run_train("--in", "masked.bl", "--save", "a.h5", "--epochs", "1", "--group", "encoder/*:rate=0.1,decay=0", "--group", "head/*:rate=2")
        (self.folder / "c.toml").write_text('group = ["encoder/*:rate=0.1,decay=0", "head/*:rate=2"]\n')
        self.run_train("--in", "masked.bl", "--save", "b.h5", "--epochs", "1", "--config", "c.toml")
        self.run_train("--in", "masked.bl", "--save", "c.h5", "--epochs", "1")
        self.assertEqual(self.digest("a.h5"), self.digest("b.h5"))
        self.assertNotEqual(self.digest("a.h5"), self.digest("c.h5"))
        for group, message in (("encodr/*:freeze", "'encodr/*' matches no parameter"), ("encoder/*:freez", "'freez' is not known"), ("*:freeze", "nothing is left")):
            self.assertIn(message, self.run_train("--in", "masked.bl", "--save", "d.h5", "--group", group, expect=2))

    def test_find_rate_suggests_and_writes_nothing(self):
        before = sorted(self.folder.iterdir())
        done = subprocess.run(command(["--in", "masked.bl", "--find-rate"]), cwd=self.folder, capture_output=True, text=True, timeout=100)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = [line.split() for line in done.stdout.splitlines()[1:-1]]
        rates = [float(row[0]) for row in rows]
        self.assertGreater(len(rates), 20)
        self.assertEqual(rates, sorted(rates))
        suggested = float(done.stdout.splitlines()[-1].removeprefix("suggested: --lr "))
        self.assertTrue(1e-4 < suggested < 0.5, done.stdout)
        with open(self.folder / "masked.bl") as stream:
            piped = subprocess.run(command(["--find-rate"]), cwd=self.folder, stdin=stream, capture_output=True, text=True, timeout=100)
        self.assertEqual(piped.stdout, done.stdout)
        self.assertEqual(sorted(self.folder.iterdir()), before)
        self.assertIn("--save is required", self.run_train("--in", "masked.bl", expect=2))

    def test_one_cycle_on_a_pipe_needs_a_number_of_steps(self):
        with open(self.folder / "masked.bl") as stream:
            self.assertIn("one-cycle needs a known number of steps", self.run_train("--save", "m.h5", "--schedule", "one-cycle", stdin=stream, expect=2))
        with open(self.folder / "masked.bl") as stream:
            self.run_train("--save", "m.h5", "--schedule", "one-cycle", "--max-steps", "15", stdin=stream)

    def test_peak_memory_is_reported(self):
        errors = self.run_train("--in", "masked.bl", "--save", "m.h5", "--epochs", "1", "--metrics", "m.json", "--log-level", "info")
        peak = [line["peak_memory_bytes"] for line in self.lines("m.json") if "peak_memory_bytes" in line]
        self.assertEqual(len(peak), 1)
        self.assertTrue(5e6 < peak[0] < 1e9, peak)
        self.assertIn("peak memory", errors)

    def test_checkpoints_that_do_not_fit_are_named(self):
        self.run_train("--in", "masked.bl", "--save", "m.h5", "--epochs", "1")
        whole = (self.folder / "m.h5").read_bytes()

        def write(name, content):
            """With the seal at its end (magic, hash) renewed, as a program of another version would have written it."""
            hashed = beamline.hash64(content[:-16]).to_bytes(8, "little")
            (self.folder / name).write_bytes(content[:-8] + hashed)

        write("again.h5", whole)
        self.assertEqual((self.folder / "again.h5").read_bytes(), whole)
        # attributes in plain HDF5 object headers: name, type (16 bytes), shape (8), value
        version = bytearray(whole)
        version[whole.index(b"version\0") + 32] += 1
        write("version.h5", bytes(version))
        write("kind.h5", whole.replace(b"masked-token", b"jetty-coupon"))
        at = whole.index(b"state:model/dim")
        write("dim.h5", whole[:at] + whole[at:].replace(b"16", b"18", 1))
        (self.folder / "short.h5").write_bytes(whole[:len(whole) // 2])
        for name, message in (("version", "written by a newer program: its version is 2"), ("kind", "a model of kind 'jetty-coupon', not 'masked-token'"),
                              ("dim", "the array 'training/values' of the model file has"), ("short", "")):
            errors = self.run_train("--in", "masked.bl", "--save", "n.h5", "--epochs", "2", "--resume", f"{name}.h5", expect=3)
            self.assertIn(f"'{name}.h5'", errors)
            self.assertIn(message, errors)
            self.assertEqual(errors.count("\n"), 1, errors)
        self.assertFalse((self.folder / "n.h5").exists())

    def test_a_file_of_weights_alone_is_used_but_not_resumed(self):
        self.run_train("--in", "masked.bl", "--save", "whole.h5", "--max-steps", "8")
        self.run_train("--in", "masked.bl", "--save", "slim.h5", "--max-steps", "8", "--weights-only")
        self.assertLess((self.folder / "slim.h5").stat().st_size, 0.6 * (self.folder / "whole.h5").stat().st_size)
        shown = subprocess.run([program("bl-show"), "slim.h5"], cwd=self.folder, capture_output=True, text=True, check=True).stdout
        self.assertIn("weights/", shown)
        self.assertNotIn("moment1", shown)
        said = self.run_train("--in", "masked.bl", "--save", "more.h5", "--max-steps", "9", "--resume", "slim.h5", expect=3)
        self.assertIn("training/values", said)

    def test_too_little_memory_is_an_error_that_says_where(self):
        if "ASAN_OPTIONS" in os.environ or "TSAN_OPTIONS" in os.environ:
            self.skipTest("the sanitizers end the process themselves when memory is refused")
        errors = self.run_train("--in", "masked.bl", "--save", "m.h5", "--dim", "65536", "--layers", "1000", expect=1)
        self.assertIn("out of memory while making a model of dim 65536 with 1000 layers", errors)
        if "asan" in os.environ["BEAMLINE_BIN"] or "tsan" in os.environ["BEAMLINE_BIN"]:
            return  # a sanitizer needs terabytes of addresses
        said = ""
        for megabytes in (90, 120, 150, 200, 300):
            limited = ["bash", "-c", f"ulimit -v {megabytes * 1000}; exec \"$@\"", "-"]
            options = command(["--in", "masked.bl", "--save", "m.h5", "--dim", "64", "--batch", "1500", "--shard", "750", "--max-steps", "2", "--threads", "3", "--force"])
            done = subprocess.run([*limited, *options], cwd=self.folder, capture_output=True, text=True, timeout=60)
            if done.returncode == 127:
                continue  # not even the libraries could be loaded
            self.assertIn(done.returncode, (0, 1), f"{megabytes} MB: {done.stderr}")
            if done.returncode == 1:
                self.assertRegex(done.stderr, r"out of memory (while|in step \d)|cannot start 3 threads")
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            said += done.stderr
        self.assertIn("out of memory", said)

    def test_a_diverging_training_stops(self):
        errors = self.run_train("--in", "masked.bl", "--save", "m.h5", "--epochs", "40", "--lr", "10", "--clip", "0", "--warmup", "0", "--decay", "10", "--schedule", "constant",
                                expect=1)
        self.assertRegex(errors, r"step \d+: the loss is")
        self.assertFalse((self.folder / "m.h5").exists())


if __name__ == "__main__":
    unittest.main()
