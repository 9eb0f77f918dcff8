"""bl-mask as its users run it."""
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

MODES = ("one", "each", "fraction", "ramp", "hardest", "softest", "rank", "knn", "radius", "type")


def tokens(events, directions=True):
    rng = np.random.default_rng(6)
    counts = rng.integers(0, 12, events) + 1
    n = int(counts.sum())
    position = np.concatenate([np.arange(c) for c in counts])
    last = np.cumsum(counts) - 1
    category = rng.integers(1, 7, n)
    category[last] = 0
    position[last] = 18
    columns = {
        "event_index": np.arange(events, dtype=np.uint64),
        "event_id": np.arange(events, dtype=np.uint64),
        "weight": np.ones(events),
        **beamline.text_column("process", ["tt"] * events),
        "token_offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32),
        "token": rng.integers(1, 900, n).astype(np.int32),
        "position": position.astype(np.uint16),
        "category": category.astype(np.uint8),
    }
    if directions:
        columns["eta"] = rng.uniform(-2.5, 2.5, n).astype(np.float32)
        columns["phi"] = rng.uniform(-3.1, 3.1, n).astype(np.float32)
    return columns


class Mask(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.whole = tokens(900)
        self.write("tokens.bl", [self.whole])
        with beamline.Writer(self.folder / "cut.bl", "tokens/1", meta={"tokenizer": {"hash": "abc"}}) as out:
            batch = beamline.concat(list(beamline.read(self.folder / "tokens.bl")))
            for i in range(0, 900, 111):
                out.write(beamline.select(batch, np.arange(i, min(i + 111, 900))))

    def write(self, name, batches):
        with beamline.Writer(self.folder / name, "tokens/1", meta={"tokenizer": {"hash": "abc"}}) as out:
            for batch in batches:
                out.write(batch)

    def run_mask(self, *arguments, stdin=None):
        return subprocess.run([program("bl-mask"), *map(str, arguments)], cwd=self.folder, stdin=stdin, capture_output=True)

    def good(self, *arguments, **more):
        done = self.run_mask(*arguments, **more)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout

    def bad(self, code, part, *arguments):
        done = self.run_mask(*arguments, "--out", "bad.bl")
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertIn(part, done.stderr.decode())
        self.assertEqual([p for p in os.listdir(self.folder) if p.startswith("bad.bl")], [])

    def options(self, mode):
        return ["--mode", mode, *(["--types", "b,m-"] if mode == "type" else [])]

    def test_one_digest_by_any_batching_workers_and_transport(self):
        for mode in MODES:
            self.good(*self.options(mode), "--in", "tokens.bl", "--out", f"{mode}.bl", "--report", f"{mode}.json")
            self.good(*self.options(mode), "--in", "cut.bl", "--out", f"{mode}_cut.bl", "--threads", 3, "--report", f"{mode}_cut.json")
            with open(self.folder / "cut.bl", "rb") as stdin:
                (self.folder / f"{mode}_pipe.bl").write_bytes(self.good(*self.options(mode), stdin=stdin))
            digests = {beamline.digest(self.folder / f"{mode}{x}.bl") for x in ("", "_cut", "_pipe")}
            self.assertEqual(len(digests), 1, mode)
            self.assertEqual((self.folder / f"{mode}.json").read_text(), (self.folder / f"{mode}_cut.json").read_text())
            hello = beamline.read(self.folder / f"{mode}.bl").hello
            self.assertEqual(hello.meta["mask"]["mode"], mode)
            self.assertEqual(hello.meta["tokenizer"], {"hash": "abc"})

    def test_the_seed_decides(self):
        for seed in (1, 2):
            self.good("--mode", "one", "--seed", seed, "--in", "tokens.bl", "--out", f"{seed}.bl")
        self.assertNotEqual(beamline.digest(self.folder / "1.bl"), beamline.digest(self.folder / "2.bl"))

    def test_counts_against_the_columns(self):
        self.good("--mode", "one", "--extras", "--in", "tokens.bl", "--out", "one.bl", "--report", "one.json")
        batch = beamline.concat(list(beamline.read(self.folder / "one.bl")))
        hidden = np.add.reduceat(batch["mask"].astype(int), batch["token_offsets"][:-1].astype(int))
        np.testing.assert_array_equal(hidden, 1)
        report = json.loads((self.folder / "one.json").read_text())
        self.assertEqual(report["masked"], 900)
        self.assertEqual(report["masked_by_category"]["event"], int((batch["mask"].astype(bool) & (batch["category"] == 0)).sum()))
        self.assertEqual(report["without_target"], 0)
        for name in ("token", "position", "category", "eta", "phi"):
            np.testing.assert_array_equal(batch[name], self.whole[name])
        self.good("--mode", "each", "--in", "tokens.bl", "--out", "each.bl")
        each = beamline.concat(list(beamline.read(self.folder / "each.bl")))
        self.assertEqual(each.events, int(np.maximum(np.diff(self.whole["token_offsets"].astype(int)) - 1, 1).sum()))
        self.assertEqual(int(each["mask"].sum()), int((self.whole["category"] > 0).sum()))

    def test_what_is_wrong_is_said(self):
        self.bad(2, "--mode", "--mode", "two", "--in", "tokens.bl")
        self.bad(2, "the masked fraction is 0", "--mode", "fraction", "--fraction", 0, "--in", "tokens.bl")
        self.bad(2, "mode type needs the categories", "--mode", "type", "--in", "tokens.bl")
        self.bad(2, "no category of particles is called 'x'", "--mode", "type", "--types", "x", "--in", "tokens.bl")
        self.bad(2, "--types belongs to --mode type", "--types", "b", "--in", "tokens.bl")
        self.bad(2, "mode knn never hides event-level tokens", "--mode", "knn", "--extras", "--in", "tokens.bl")
        self.write("bare.bl", [tokens(20, directions=False)])
        self.bad(3, "mode radius needs the columns eta and phi", "--mode", "radius", "--in", "bare.bl")
        self.good("--mode", "softest", "--in", "bare.bl", "--out", "fine.bl")

    def test_an_empty_stream_stays_empty(self):
        self.write("none.bl", [])
        self.good("--in", "none.bl", "--out", "masked.bl")
        self.assertEqual(list(beamline.read(self.folder / "masked.bl")), [])


if __name__ == "__main__":
    unittest.main()
