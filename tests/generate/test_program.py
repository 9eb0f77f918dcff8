"""bl-train --objective next-token and bl-generate as their users run them: from jets to tokens, a model, jets again."""
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
from support import SOURCE, program  # noqa: E402

TRAIN = ["--objective", "next-token", "--dim", "32", "--layers", "1", "--heads", "2", "--batch", "64", "--lr", "0.01", "--warmup", "10", "--seed", "5"]


class Generate(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.scratch.name)
        cls.write_jets("jets.bl", 1200)
        cls.call("bl-tokenize", "--fit", "kmeans", "--codes", "24", "--in", "jets.bl", "--save", "tok.h5")
        cls.call("bl-tokenize", "--with", "tok.h5", "--in", "jets.bl", "--out", "tokens.bl")
        cls.call("bl-train", *TRAIN, "--in", "tokens.bl", "--save", "gpt.h5", "--epochs", "6", "--metrics", "gpt.json")
        cls.call("bl-train", *TRAIN, "--in", "tokens.bl", "--save", "classes.h5", "--epochs", "6", "--classes", "few,many")

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    @classmethod
    def write_jets(cls, name, events):
        """Jets of two processes: few has 3 to 6 constituents, many 10 to 14."""
        rng = np.random.default_rng(8)
        many = np.arange(events) % 2
        counts = np.where(many, rng.integers(10, 15, events), rng.integers(3, 7, events))
        n = int(counts.sum())
        event = np.repeat(np.arange(events), counts)
        pt = rng.exponential(20, n).astype(np.float32) + 1
        pt = pt[np.lexsort((-pt, event))]
        with beamline.Writer(cls.folder / name, "particles/1") as out:
            out.write({
                "event_index": np.arange(events, dtype=np.uint64), "event_id": np.arange(events, dtype=np.uint64), "weight": np.ones(events),
                **beamline.text_column("process", ["many" if m else "few" for m in many]),
                "jet_eta": np.zeros(events, np.float32), "jet_phi": np.zeros(events, np.float32),
                "particle_offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32), "pt": pt,
                "eta": rng.normal(0, 0.2, n).astype(np.float32), "phi": rng.normal(0, 0.2, n).astype(np.float32), "mass": np.zeros(n, np.float32),
            })

    @classmethod
    def call(cls, name, *options, expect=0):
        done = subprocess.run([program(name), *options], cwd=cls.folder, capture_output=True, text=True, timeout=100)
        if done.returncode != expect:
            raise AssertionError(f"{name} {' '.join(options)}: {done.returncode}, not {expect}: {done.stderr}")
        return done.stderr if expect else done.stdout

    def digest(self, name):
        return self.call("bl-show", "--digest", name)

    def events(self, name):
        return beamline.concat(list(beamline.read(self.folder / name)))

    def refuses(self, code, says, *options):
        errors = self.call("bl-generate", *options, "--out", "refused.bl", expect=code)
        self.assertEqual(errors.count("\n"), 1, errors)
        for word in [says] if isinstance(says, str) else says:
            self.assertIn(word, errors)
        self.assertEqual(list(self.folder.glob("refused.bl*")), [])

    def test_learns_more_than_the_frequencies(self):
        lines = [json.loads(line) for line in (self.folder / "gpt.json").read_text().splitlines()]
        last = [line for line in lines if "validation_loss" in line][-1]
        self.assertLess(last["validation_loss"], last["unigram_entropy"] - 0.02)
        self.assertIn("next-token", self.call("bl-show", "gpt.h5"))

    def test_generated_events_are_like_those_of_the_training(self):
        self.call("bl-generate", "--model", "gpt.h5", "--n", "3000", "--seed", "3", "--threads", "2", "--out", "generated.bl")
        made, real = self.events("generated.bl"), self.events("tokens.bl")
        self.assertEqual(len(made["event_index"]), 3000)
        lengths, expected = np.diff(made["token_offsets"]), np.diff(real["token_offsets"])
        self.assertAlmostEqual(lengths.mean(), expected.mean(), delta=0.1 * expected.mean())
        frequencies = [np.bincount(x["token"], minlength=30) / len(x["token"]) for x in (made, real)]
        self.assertLess(np.abs(frequencies[0] - frequencies[1]).sum(), 0.2)
        self.assertEqual(set(made["category"]), {10})
        # and back to jets
        self.call("bl-tokenize", "--with", "tok.h5", "--decode", "--in", "generated.bl", "--out", "back.bl")
        back = self.events("back.bl")
        np.testing.assert_array_equal(back["particle_offsets"], made["token_offsets"])
        self.assertAlmostEqual(np.median(back["pt"]), np.median(self.events("jets.bl")["pt"]), delta=4)
        with beamline.read(self.folder / "generated.bl") as stream:
            self.assertEqual(stream.hello.meta["generation"]["temperature"], 1.0)
            self.assertEqual(stream.hello.history[-1]["stage"], "bl-generate")

    def test_one_digest_for_any_batch_and_number_of_threads(self):
        digests = set()
        for i, options in enumerate((["--batch", "1"], ["--batch", "7", "--threads", "3"], ["--threads", "2"], ["--batch", "1000"])):
            self.call("bl-generate", "--model", "gpt.h5", "--n", "300", "--seed", "4", "--top-p", "0.9", *options, "--out", f"d{i}.bl")
            digests.add(self.digest(f"d{i}.bl"))
        self.assertEqual(len(digests), 1)
        # the first events of a longer run, and another seed
        self.call("bl-generate", "--model", "gpt.h5", "--n", "5000", "--seed", "4", "--top-p", "0.9", "--out", "long.bl")
        self.call("bl-head", "--n", "300", "--in", "long.bl", "--out", "short.bl")
        self.assertIn(self.digest("short.bl"), digests)
        self.call("bl-generate", "--model", "gpt.h5", "--n", "300", "--seed", "5", "--top-p", "0.9", "--out", "other.bl")
        self.assertNotIn(self.digest("other.bl"), digests)

    def test_classes(self):
        self.call("bl-generate", "--model", "classes.h5", "--n", "1000", "--class", "many,few", "--out", "both.bl")
        made = self.events("both.bl")
        lengths = np.diff(made["token_offsets"])
        np.testing.assert_array_equal(made["label"], 1 - np.arange(1000) % 2)
        self.assertEqual(list(made.text("process"))[:2], ["many", "few"])
        with beamline.read(self.folder / "both.bl") as stream:
            self.assertEqual(stream.hello.meta["labels"], {"0": "few", "1": "many"})
        self.assertGreater(lengths[::2].mean(), 9.5)
        self.assertLess(lengths[1::2].mean(), 7)
        self.refuses(2, ["makes events of a class", "few, many"], "--model", "classes.h5")
        self.refuses(2, "does not know 'some'", "--model", "classes.h5", "--class", "some")
        self.refuses(2, "trained without --classes", "--model", "gpt.h5", "--class", "few")

    def test_prompts_are_completed(self):
        self.call("bl-generate", "--model", "gpt.h5", "--n", "50", "--prompt", "3,4,5", "--out", "list.bl")
        made = self.events("list.bl")
        for first, last in zip(made["token_offsets"][:-1], made["token_offsets"][1:]):
            self.assertEqual(list(made["token"][first:last][:3]), [3, 4, 5])
        self.call("bl-generate", "--model", "gpt.h5", "--n", "1300", "--prompts", "tokens.bl", "--prompt-tokens", "2", "--out", "completed.bl")
        made, real = self.events("completed.bl"), self.events("tokens.bl")
        for event in (0, 1, 700, 1250):
            begins = made["token_offsets"][event], real["token_offsets"][event % 1200]
            self.assertEqual(list(made["token"][begins[0]:begins[0] + 2]), list(real["token"][begins[1]:begins[1] + 2]))
        # an event that was made goes on from its own beginning to the same end
        self.call("bl-generate", "--model", "gpt.h5", "--n", "200", "--seed", "6", "--out", "whole.bl")
        self.call("bl-generate", "--model", "gpt.h5", "--n", "200", "--seed", "6", "--prompts", "whole.bl", "--prompt-tokens", "3", "--out", "again.bl")
        self.assertEqual(self.digest("again.bl"), self.digest("whole.bl"))

    def test_bad_requests(self):
        vocabulary = 25  # ids 0 … 24
        self.refuses(2, "--n", "--model", "gpt.h5", "--n", "0")
        self.refuses(2, "the temperature is 0, allowed is above 0", "--model", "gpt.h5", "--temperature", "0")
        self.refuses(2, "--temperature", "--model", "gpt.h5", "--temperature=-1")
        self.refuses(2, "top-p is 0", "--model", "gpt.h5", "--top-p", "0")
        self.refuses(2, "top-k is 99, the model knows 27 ids", "--model", "gpt.h5", "--top-k", "99")
        self.refuses(2, "the model reads at most 128", "--model", "gpt.h5", "--max-length", "129")
        self.refuses(2, f"token {vocabulary} is out of the vocabulary of 0 to {vocabulary - 1}", "--model", "gpt.h5", "--prompt", f"1,{vocabulary}")
        self.refuses(2, "'one' is not the id of a token", "--model", "gpt.h5", "--prompt", "one")
        self.refuses(2, "--prompt has 129 tokens, a sequence has at most 128", "--model", "gpt.h5", "--prompt", ",".join(["1"] * 129))
        self.refuses(3, ["event 1 has", "a prompt has at most 5", "--prompt-tokens"], "--model", "gpt.h5", "--prompts", "tokens.bl", "--max-length", "5")
        self.refuses(2, "choose one: --prompt", "--model", "gpt.h5", "--prompt", "1", "--prompts", "tokens.bl")
        self.refuses(2, "--prompt-tokens belongs to --prompts", "--model", "gpt.h5", "--prompt-tokens", "1")
        self.refuses(3, "no-such.h5", "--model", "no-such.h5")
        self.refuses(3, "'tok.h5' is not a model", "--model", "tok.h5")
        self.call("bl-mask", "--in", "tokens.bl", "--out", "masked.bl")
        self.call("bl-train", "--in", "masked.bl", "--save", "masked.h5", "--epochs", "1", "--dim", "16", "--layers", "1")
        self.refuses(3, "'masked.h5' is a model of kind 'masked-token', not 'next-token'", "--model", "masked.h5")
        # tokens of another codebook, and what decodes them
        self.call("bl-tokenize", "--fit", "kmeans", "--codes", "20", "--in", "jets.bl", "--save", "other.h5")
        self.call("bl-tokenize", "--with", "other.h5", "--in", "jets.bl", "--out", "foreign.bl")
        self.refuses(3, "was trained on codebook", "--model", "gpt.h5", "--prompts", "foreign.bl")
        self.call("bl-generate", "--model", "gpt.h5", "--n", "10", "--out", "ten.bl")
        self.assertIn("is codebook", self.call("bl-tokenize", "--with", "other.h5", "--decode", "--in", "ten.bl", "--out", "refused.bl", expect=3))
        errors = self.call("bl-score", "--model", "gpt.h5", "--in", "tokens.bl", "--out", "refused.bl", expect=3)
        self.assertIn("is a model of kind 'next-token', not 'masked-token'", errors)

    def test_bad_training(self):
        def refuses(code, says, *options):
            errors = self.call("bl-train", *options, "--save", "refused.h5", expect=code)
            self.assertIn(says, errors)
            self.assertEqual(errors.count("\n"), 1, errors)
            self.assertEqual(list(self.folder.glob("refused.h5*")), [])

        self.call("bl-mask", "--in", "tokens.bl", "--out", "hidden.bl")
        refuses(3, "the objective next-token learns from tokens", *TRAIN, "--in", "hidden.bl")
        refuses(2, "--types belongs to --objective masked-token", *TRAIN, "--in", "tokens.bl", "--types")
        refuses(2, "--classes belongs to --objective next-token", "--in", "tokens.bl", "--classes", "few")
        refuses(2, "--classes names 'few' twice", *TRAIN, "--in", "tokens.bl", "--classes", "few,few")
        refuses(3, "is of the process 'many', which is none of --classes few", *TRAIN, "--in", "tokens.bl", "--classes", "few")
        refuses(3, "tokens, the model reads at most 5: raise --positions", *TRAIN, "--in", "tokens.bl", "--positions", "6")
        with beamline.read(self.folder / "tokens.bl") as stream:
            schema, meta, batches = stream.hello.schema, stream.hello.meta, list(stream)
        for name, change, says in (("nostart", {"start": None}, "do not say their start"), ("gap", {"stop": 30}, "stop must follow start")):
            tokenizer = {k: v for k, v in {**meta["tokenizer"], **change}.items() if v is not None}
            with beamline.Writer(self.folder / f"{name}.bl", schema, meta={"tokenizer": tokenizer}, force=True) as out:
                for batch in batches:
                    out.write(batch)
            refuses(3, says, *TRAIN, "--in", f"{name}.bl")
        token = batches[0]["token"].copy()
        token[3] = meta["tokenizer"]["start"]
        with beamline.Writer(self.folder / "large.bl", schema, meta=meta, force=True) as out:
            out.write({**batches[0], "token": token})
        refuses(3, f"token {token[3]} is out of the vocabulary", *TRAIN, "--in", "large.bl")
        refuses(3, "is a model of kind 'next-token', not 'masked-token'", "--in", "tokens.bl", "--resume", "gpt.h5")
        refuses(2, "has the classes few,many, the command line says ", *TRAIN, "--in", "tokens.bl", "--resume", "classes.h5",
                "--epochs", "8", "--classes", "many,few")

    def test_kill_and_resume_give_the_same_weights(self):
        options = [*TRAIN, "--in", "tokens.bl", "--epochs", "20", "--dropout", "0.1", "--ema", "0.9", "--schedule", "constant"]
        self.call("bl-train", *options, "--save", "whole.h5")
        process = subprocess.Popen([program("bl-train"), *options, "--save", "m.h5", "--checkpoint-every", "7"], cwd=self.folder)
        deadline = time.monotonic() + 60
        while not (self.folder / "m.h5.part.h5").exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        process.wait()
        self.assertFalse((self.folder / "m.h5").exists())
        self.call("bl-train", *options, "--save", "m.h5", "--resume", "m.h5.part.h5", "--threads", "2")
        self.assertEqual(self.digest("m.h5"), self.digest("whole.h5"))
        # one pass over a pipe learns the same facts about the tokens
        with open(self.folder / "tokens.bl") as stream:
            subprocess.run([program("bl-train"), *TRAIN, "--save", "pass.h5", "--classes", "few,many"], cwd=self.folder, stdin=stream, check=True, timeout=100)
        self.call("bl-generate", "--model", "pass.h5", "--class", "few", "--n", "20", "--out", "pass.bl")
        self.assertEqual(set(self.events("pass.bl")["category"]) | {10}, {10})

    def test_over_a_socket_and_a_pipe_and_sigterm(self):
        self.call("bl-generate", "--model", "gpt.h5", "--n", "5000", "--out", "file.bl")
        generate = [program("bl-generate"), "--model", "gpt.h5", "--n", "5000"]
        head = [program("bl-head"), "--n", "1000000", "--out"]
        endpoint = f"ipc://{self.folder}/link"
        sink = subprocess.Popen([*head, "ipc.bl", "--in", f"{endpoint}?timeout=20"], cwd=self.folder)
        subprocess.run([*generate, "--out", f"{endpoint}?timeout=20"], cwd=self.folder, check=True, timeout=100)
        self.assertEqual(sink.wait(timeout=60), 0)
        self.assertEqual(self.digest("ipc.bl"), self.digest("file.bl"))
        with subprocess.Popen(generate, cwd=self.folder, stdout=subprocess.PIPE) as source:
            subprocess.run([*head, "pipe.bl"], cwd=self.folder, stdin=source.stdout, check=True, timeout=100)
        self.assertEqual(self.digest("pipe.bl"), self.digest("file.bl"))
        endless = subprocess.Popen([program("bl-generate"), "--model", "gpt.h5", "--n", "1000000000", "--out", "endless.bl", "--threads", "2"], cwd=self.folder,
                                   stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not (self.folder / "endless.bl.part").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
        endless.send_signal(signal.SIGTERM)
        endless.communicate(timeout=60)
        self.assertEqual(endless.returncode, 143)
        self.assertEqual(list(self.folder.glob("endless.bl*")), [])
        # a reader that has had enough ends it in order
        with subprocess.Popen([program("bl-generate"), "--model", "gpt.h5", "--n", "1000000000"], cwd=self.folder, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as source:
            subprocess.run([program("bl-head"), "--n", "10", "--out", "ten_of_many.bl"], cwd=self.folder, stdin=source.stdout, check=True, timeout=100)
            source.stdout.close()
            source.stderr.read()
            self.assertIn(source.wait(timeout=60), (0, 5))


if __name__ == "__main__":
    unittest.main()
