"""bl-head, bl-shuffle, bl-split and what the runner gives every stage: history, stream ids, config files, metrics."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(os.environ["BEAMLINE_SOURCE"])
BIN = Path(os.environ["BEAMLINE_BIN"])
sys.path.insert(0, str(SOURCE / "python"))

import beamline  # noqa: E402
import numpy as np  # noqa: E402


def events(n, first=0, per_id=1, seed=1):
    rng = np.random.default_rng(seed + first)
    counts = rng.integers(0, 6, n)
    total = counts.sum()
    index = np.arange(first, first + n, dtype="u8")
    return {
        "event_index": index, "event_id": index // per_id, "weight": np.ones(n),
        **beamline.text_column("process", [("tt", "ttH", "")[i % 3] for i in range(n)]),
        "met": rng.exponential(50, n).astype("f4"), "met_phi": rng.uniform(-3, 3, n).astype("f4"),
        "object_offsets": np.concatenate([[0], np.cumsum(counts)]).astype("u4"),
        "type": rng.integers(1, 6, total).astype("u1"), "charge": np.zeros(total, "i1"),
        "pt": rng.exponential(60, total).astype("f4"), "eta": rng.normal(0, 1, total).astype("f4"),
        "phi": rng.uniform(-3, 3, total).astype("f4"), "mass": np.zeros(total, "f4"), "btag": np.zeros(total, "f4"),
    }


def jets(n, per_event):
    index = np.arange(n, dtype="u8")
    offsets = np.arange(n + 1, dtype="u4") * 2
    return {
        "event_index": index, "event_id": index // per_event, "weight": np.ones(n), **beamline.text_column("process", ["QCD"] * n),
        "particle_offsets": offsets, "pt": np.ones(2 * n, "f4"), "eta": np.zeros(2 * n, "f4"), "phi": np.zeros(2 * n, "f4"),
    }


class Plumbing(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="beamline-stage-")
        self.addCleanup(self.folder.cleanup)
        self.dir = Path(self.folder.name)
        self.input = self.write("in.bl", 5, 700)

    def write(self, name, batches, size, **kw):
        path = self.dir / name
        with beamline.Writer(str(path), "objects/1") as out:
            for b in range(batches):
                out.write(events(size, first=b * size, **kw))
        return path

    def run_stage(self, command, code=0):
        done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=self.dir, capture_output=True, text=True,
                              env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}, timeout=60)
        self.assertEqual(done.returncode, code, f"{command}\n{done.stderr}")
        if code == 0:
            self.assertEqual(done.stderr, "", command)
        return done

    def column(self, path, name="event_index"):
        return np.concatenate([b[name] for b in beamline.read(str(self.dir / path))])

    def show(self, path):
        return json.loads(self.run_stage(f"bl-show --json --events 0 {path}").stdout)

    def digest(self, path):
        return self.run_stage(f"bl-show --digest {path}").stdout.strip()

    def test_digest_is_the_one_of_the_python_module(self):
        self.assertEqual(self.digest("in.bl"), beamline.digest(str(self.input)))

    def test_head_keeps_the_first_events(self):
        for n in (0, 1, 700, 701, 3500, 9999):
            self.run_stage(f"bl-head --n {n} --in in.bl --out h.bl --force")
            self.assertEqual(list(self.column("h.bl")) if n else [], list(range(min(n, 3500))))

    def test_head_ends_its_upstream_in_order_and_silently(self):
        done = self.run_stage("bl-shuffle --batch 10 --in in.bl | bl-head --n 15 | bl-head --n 5 | bl-show --json; echo ${PIPESTATUS[@]}")
        text, codes = done.stdout.rsplit("}", 1)
        self.assertEqual(codes.split(), ["0", "0", "0", "0"])
        self.assertEqual(json.loads(text + "}")["events"], 5)

    def test_a_reader_that_dies_is_not_one_that_has_enough(self):
        done = subprocess.run(["bash", "-c", "bl-shuffle --batch 10 --in in.bl,in.bl,in.bl,in.bl | head -c 500 >/dev/null; exit ${PIPESTATUS[0]}"], cwd=self.dir,
                              capture_output=True, text=True, env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}, timeout=60)
        self.assertEqual(done.returncode, 5)
        self.assertIn("went away", done.stderr)

    def test_shuffle_is_a_permutation_that_only_the_seed_decides(self):
        self.run_stage("bl-shuffle --seed 3 --in in.bl --out a.bl")
        self.write("fine.bl", 35, 100)
        whole = np.concatenate([b["event_index"] for b in beamline.read(str(self.dir / "in.bl"))])
        a = self.column("a.bl")
        self.assertEqual(sorted(a), list(whole))
        self.assertGreater(np.abs(np.diff(a.astype(int))).mean(), 500)  # a third of the range for a random order
        self.assertEqual(self.digest("a.bl"), self.digest("in.bl"))
        self.run_stage("bl-shuffle --seed 3 --batch 100 --in in.bl --out b.bl; bl-shuffle --seed 4 --in in.bl --out c.bl; bl-shuffle --seed 3 --in fine.bl --out d.bl")
        self.assertTrue((self.column("b.bl") == a).all())
        self.assertTrue((self.column("d.bl") == a).all())
        self.assertFalse((self.column("c.bl") == a).all())

    def test_split_gives_every_event_to_one_part(self):
        self.run_stage("bl-split --seed 5 --parts a.bl=0.5,b.bl=0.3,c.bl=0.2 --in in.bl")
        parts = [self.column(p) for p in ("a.bl", "b.bl", "c.bl")]
        self.assertEqual(sorted(np.concatenate(parts)), list(range(3500)))
        for part, fraction in zip(parts, (0.5, 0.3, 0.2)):
            self.assertLess(abs(len(part) - 3500 * fraction), 5 * (3500 * fraction * (1 - fraction)) ** 0.5)
        self.assertEqual(self.digest("a.bl,b.bl,c.bl"), self.digest("in.bl"))
        self.run_stage("bl-shuffle --in in.bl | bl-split --seed 5 --parts d.bl=0.5")
        self.assertEqual(sorted(self.column("d.bl")), sorted(parts[0]))  # whatever order the events come in

    def test_split_keeps_the_jets_of_an_event_together(self):
        with beamline.Writer(str(self.dir / "jets.bl"), "particles/1") as out:
            out.write(jets(4000, 4))
        self.run_stage("bl-split --parts a.bl=0.5,b.bl=0.5 --in jets.bl")
        a, b = set(self.column("a.bl", "event_id")), set(self.column("b.bl", "event_id"))
        self.assertFalse(a & b)
        self.assertEqual(len(a | b), 1000)

    def test_split_by_process(self):
        self.run_stage("bl-split --by-process parts --in in.bl")
        self.assertEqual(sorted(p.name for p in (self.dir / "parts").iterdir()), ["tt.bl", "ttH.bl", "unnamed.bl"])
        self.assertEqual(self.digest("parts/tt.bl,parts/ttH.bl,parts/unnamed.bl"), self.digest("in.bl"))

    def test_split_mistakes(self):
        for parts, word in (("a.bl", "FILE=FRACTION"), ("a.bl=0", "FILE=FRACTION"), ("a.bl=0.7,b.bl=0.7", "add up to 1.4"), ("=0.5", "FILE=FRACTION")):
            self.assertIn(word, self.run_stage(f"bl-split --parts {parts} --in in.bl", 2).stderr)
        self.assertIn("--force", self.run_stage("bl-split --parts in.bl=0.5 --in in.bl", 4).stderr)
        self.assertIn("either", self.run_stage("bl-split --in in.bl", 2).stderr)
        self.assertFalse(list(self.dir.glob("*.part")))

    def test_history_names_every_program_in_order(self):
        self.run_stage("bl-shuffle --seed 9 --in in.bl | bl-head --n 7 --out h.bl")
        history = self.show("h.bl")["history"]
        self.assertEqual([h["stage"] for h in history], ["bl-shuffle", "bl-head"])
        self.assertEqual(history[0]["seed"], 9)
        self.assertEqual(history[1]["options"]["n"], 7)

    def test_the_same_command_gives_the_same_bytes(self):
        self.run_stage("bl-shuffle --in in.bl --out a.bl; bl-shuffle --in in.bl --out b.bl; bl-shuffle --seed 2 --in in.bl --out c.bl")
        a, b = (self.dir / "a.bl").read_bytes(), (self.dir / "b.bl").read_bytes()
        self.assertEqual(a, b)
        self.assertNotEqual(a[8:16], (self.dir / "c.bl").read_bytes()[8:16])  # another seed is another stream

    def test_config_file(self):
        (self.dir / "c.toml").write_text("n = 12\n")
        self.run_stage("bl-head --config c.toml --in in.bl --out a.bl")
        self.assertEqual(len(self.column("a.bl")), 12)
        self.run_stage("bl-head --config c.toml --n 3 --in in.bl --out b.bl")
        self.assertEqual(len(self.column("b.bl")), 3)
        (self.dir / "bad.toml").write_text("n = 12\nnumber = 4\n")
        self.assertIn("number", self.run_stage("bl-head --config bad.toml --in in.bl --out c.bl", 2).stderr)
        self.assertIn("absent.toml", self.run_stage("bl-head --config absent.toml --in in.bl --out c.bl", 2).stderr)
        self.assertFalse((self.dir / "c.bl").exists())

    def test_metrics_are_json_lines(self):
        self.run_stage("bl-head --n 100 --metrics m.jsonl --in in.bl --out a.bl")
        lines = [json.loads(line) for line in (self.dir / "m.jsonl").read_text().splitlines()]
        self.assertTrue(lines[-1]["done"])
        self.assertGreaterEqual(lines[-1]["events"], 100)

    def test_files_of_different_schemas_are_not_joined(self):
        with beamline.Writer(str(self.dir / "jets.bl"), "particles/1") as out:
            out.write(jets(4, 1))
        self.assertIn("cannot be read as one stream", self.run_stage("bl-show in.bl,jets.bl", 3).stderr)

    def test_show_says_what_a_stream_holds(self):
        shown = self.show("in.bl")
        self.assertEqual((shown["schema"], shown["events"], shown["batches"]), ("objects/1", 3500, 5))
        self.assertEqual(shown["processes"], {"tt": 1170, "ttH": 1165, "": 1165})
        met = self.column("in.bl", "met")
        column = next(c for c in shown["columns"] if c["name"] == "met")
        self.assertAlmostEqual(column["max"], float(met.max()), places=4)
        self.assertAlmostEqual(column["mean"], float(met.astype("f8").mean()), places=4)
        lines = self.run_stage("bl-show --csv --events 4 in.bl").stdout.splitlines()
        self.assertEqual(len(lines), 5)
        self.assertTrue(lines[0].startswith("event_index,event_id"))
        self.assertIn("objects/1, 3500 events in 5 batches", self.run_stage("bl-show in.bl").stdout)
        self.run_stage("bl-show --json --digest in.bl", 2)


if __name__ == "__main__":
    unittest.main()
