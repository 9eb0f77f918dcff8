"""What bl-simulate makes, and how it ends. All of it is skipped without its Python environment (python/make_venv.sh)."""
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import numpy as np

import beamline
from support import BIN, SOURCE, program

CODE = SOURCE / "stages" / "simulate"
SAMPLES = SOURCE / "samples"


def run(*arguments, **options):
    return subprocess.run([program("bl-simulate"), *map(str, arguments)], capture_output=True, **options)


def environment_or_skip():
    """The tests that make events need Pythia."""
    named = os.environ.get("BEAMLINE_VENV")
    for venv in [Path(named)] if named else [BIN.parent / ".venv", SOURCE / ".venv"]:
        if (venv / "bin" / "python").exists():
            return
    raise unittest.SkipTest("no Python environment with Pythia; make -f Makefile.workflow venv")


class Making(unittest.TestCase):
    def setUp(self):
        environment_or_skip()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def make(self, *arguments, name="a.bl"):
        path = self.folder / name
        done = run(*arguments, "--out", path)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""), done.stderr.decode())
        stream = beamline.read(path)
        return stream, beamline.concat(list(stream))

    def same(self, made, sample):
        for name in made:
            if name == "event_index":
                continue
            if made[name].dtype.kind == "f":
                # another processor's mathematical functions may round the last bit differently
                np.testing.assert_allclose(made[name], sample[name], rtol=1e-5, atol=1e-6, err_msg=name)
            else:
                np.testing.assert_array_equal(made[name], sample[name], name)

    def test_samples_are_made_again(self):
        cases = [("anomaly/background.bl", ("events", "--selection", "multitop", "--seed", 1), "ttH", 12),
                 ("anomaly/background.bl", ("events", "--selection", "multitop", "--seed", 1), "ttZ-like", 4),
                 ("anomaly/signal_gluino.bl", ("events", "--selection", "multitop", "--seed", 3), "gluino-4top", 12),
                 ("jets.bl", ("jets", "--seed", 4), "Hbb", 5)]
        for i, (sample, arguments, process, n) in enumerate(cases):
            stream, made = self.make(*arguments, "--process", f"{process}:{n}", name=f"{i}.bl")
            whole = beamline.concat(list(beamline.read(SAMPLES / sample)))
            of_process = np.array([t == process for t in whole.text("process")])
            self.same(made, beamline.select(whole, np.flatnonzero(of_process)[:n]))
            self.assertEqual(stream.hello.history[0]["stage"], "bl-simulate")
            self.assertEqual(stream.hello.meta["generator"]["name"], "Pythia")

    def test_one_result_for_any_number_of_processes(self):
        arguments = ("events", "--process", "tt:510,QCD:20", "--no-mpi", "--seed", 9)
        _, one = self.make(*arguments, "--threads", 1, name="1.bl")
        _, three = self.make(*arguments, "--threads", 3, name="3.bl")
        for name in one:
            np.testing.assert_array_equal(one[name], three[name], name)
        self.assertEqual(one["event_index"].tolist(), list(range(530)))
        self.assertEqual(len(set(one["event_id"].tolist())), 530)
        _, other = self.make("events", "--process", "tt:20", "--no-mpi", "--seed", 10, name="other.bl")
        first = beamline.select(one, np.flatnonzero([t == "tt" for t in one.text("process")])[:20])
        self.assertFalse(np.array_equal(first["met"], other["met"]))

    def test_every_process_is_known_to_pythia(self):
        sys.path.insert(0, str(CODE))
        from beamline_simulate.processes import EVENTS, JETS
        stream, events = self.make("events", "--process", ",".join(EVENTS), "--events", 2, "--no-mpi", "--threads", 2, name="events.bl")
        self.assertEqual(set(events.text("process")), set(EVENTS))
        for name, facts in stream.hello.meta["processes"].items():
            self.assertGreater(facts["cross_section_pb"], 0, name)
        _, jets = self.make("jets", "--process", ",".join(JETS), "--events", 2, "--no-mpi", "--threads", 2, name="jets.bl")
        self.assertEqual({t.split("-")[0] for t in jets.text("process")}, set(JETS))
        self.assertTrue((np.diff(events["event_index"]) == 1).all())
        for batch, entries in ((events, "object"), (jets, "particle")):
            for i in range(batch.events):
                self.assertTrue((np.diff(batch.event("pt", i)) <= 0).all(), "falling pt")

    def test_jets_by_label(self):
        stream, jets = self.make("jets", "--label", "top,qcd", "--events", 300, "--no-mpi", "--threads", 2, "--seed", 5)
        names = np.array(jets.text("process"))
        self.assertEqual({n: int((names == n).sum()) for n in set(names)}, {"Tbqq": 300, "QCD": 300})
        self.assertEqual(stream.hello.meta["labels"], {"0": "QCD", "8": "Tbqq"})
        self.assertEqual([stream.hello.history[0]["options"][k] for k in ("label", "process")], [["top", "qcd"], []])
        np.testing.assert_array_equal(jets["label"], np.where(names == "QCD", 0, 8))
        made = jets["event_id"] // 10**12  # number of the class: 109 Tbqq, 111 quark, 112 gluon jets
        self.assertEqual([int((made == k).sum()) for k in (109, 111, 112)], [300, 150, 150])
        # gluon jets have more constituents than quark jets, top jets the top's mass
        counts = jets.counts("pt")
        self.assertGreater(counts[made == 112].mean(), 1.3 * counts[made == 111].mean())
        self.assertTrue(160 < np.median(jets["jet_mass"][names == "Tbqq"]) < 190)
        # Both tops of an event bear its id, are two jets, and stay together when the jets are split.
        ids, times = np.unique(jets["event_id"], return_counts=True)
        self.assertEqual(set(times.tolist()), {1, 2})
        i, j = np.flatnonzero(jets["event_id"] == ids[times == 2][0])
        self.assertGreater(abs((jets["jet_phi"][i] - jets["jet_phi"][j] + np.pi) % (2 * np.pi) - np.pi), 1)
        parts = [str(self.folder / name) for name in ("train.bl", "test.bl")]
        done = subprocess.run([program("bl-split"), "--parts", f"{parts[0]}=0.5,{parts[1]}=0.5", "--in", str(self.folder / "a.bl")], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        train, test = (beamline.concat(list(beamline.read(part))) for part in parts)
        self.assertEqual(train.events + test.events, 600)
        self.assertFalse(set(train["event_id"].tolist()) & set(test["event_id"].tolist()))
        # the label changes names and ids, not the jets; a smaller number of them are the first ones
        _, tops = self.make("jets", "--process", "Tbqq:40", "--no-mpi", "--seed", 5, name="tops.bl")
        first = beamline.select(jets, np.flatnonzero(names == "Tbqq")[:40])
        np.testing.assert_array_equal(tops["pt"], first["pt"])
        np.testing.assert_array_equal(tops["event_id"], 109 * 10**9 + np.arange(40))
        # --sample changes the ids alone
        _, other = self.make("jets", "--process", "Tbqq:40", "--no-mpi", "--seed", 5, "--sample", 3, name="other.bl")
        np.testing.assert_array_equal(other["pt"], tops["pt"])
        np.testing.assert_array_equal(other["event_id"], tops["event_id"] + np.uint64(3 * 10**15))

    def test_decays_are_the_labels(self):
        masses = {"H4q": (105, 140), "Hqql": (60, 125), "Tbl": (80, 160), "q": (20, 90), "g": (60, 150)}
        _, jets = self.make("jets", "--label", ",".join(masses), "--events", 100, "--no-mpi", "--threads", 2)
        names, index = np.array(jets.text("process")), np.repeat(np.arange(jets.events), jets.counts("pt"))
        leptonic = np.bincount(index, np.isin(np.abs(jets["pid"]), (11, 13)) & (jets["pt"] > 20), minlength=jets.events) > 0
        for name, (low, high) in masses.items():
            self.assertTrue(low < np.median(jets["jet_mass"][names == name]) < high, name)
            share = leptonic[names == name].mean()
            self.assertTrue(share > 0.9 if name in ("Hqql", "Tbl") else share < 0.3, f"{name}: {share}")

    def test_stopped(self):
        path = self.folder / "a.bl"
        process = subprocess.Popen([program("bl-simulate"), "--process", "tt", "--events", "1000000", "--out", path, "--metrics", self.folder / "m"], stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not (self.folder / "m").exists() or not (self.folder / "m").read_text():
            self.assertLess(time.monotonic(), deadline)
            self.assertIsNone(process.poll())
            time.sleep(0.1)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)[1]
        self.assertEqual(process.returncode, 143, said)
        self.assertEqual(os.listdir(self.folder), ["m"])
        while any(Path(f"/proc/{child}").exists() for child in children):
            self.assertLess(time.monotonic(), deadline, "a worker is left")
            time.sleep(0.05)

    def test_output_that_cannot_be(self):
        (self.folder / "a.bl").write_text("mine")
        done = run("--process", "tt:1", "--out", self.folder / "a.bl")
        self.assertEqual((done.returncode, (self.folder / "a.bl").read_text()), (4, "mine"))
        self.assertIn(b"--force", done.stderr)
        done = run("--process", "tt:1", "--out", self.folder / "no" / "a.bl")
        self.assertEqual(done.returncode, 4, done.stderr)
        done = run("--process", "tt:1", "--out", "tcp://127.0.0.1:5555")
        self.assertEqual(done.returncode, 2, done.stderr)
        if os.path.exists("/dev/full"):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([program("bl-simulate"), "--process", "tt:1", "--no-mpi"], stdout=full, stderr=subprocess.PIPE)
            self.assertEqual(done.returncode, 4, done.stderr)

    def test_a_terminal_gets_no_stream_but_progress(self):
        master, terminal = pty.openpty()
        done = subprocess.run([program("bl-simulate"), "--process", "tt:1"], stdout=terminal, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"terminal", done.stderr)
        done = subprocess.run([program("bl-simulate"), "--process", "tt:400", "--out", self.folder / "a.bl"], stderr=terminal)
        os.close(terminal)
        self.assertEqual(done.returncode, 0)
        seen = b""
        while select.select([master], [], [], 0)[0]:
            try:
                seen += os.read(master, 65536)
            except OSError:
                break
        os.close(master)
        self.assertRegex(seen.decode(), r"bl-simulate: \d+/400 events, \d+/s, \d:\d\d left")

    def test_reader_gone(self):
        writer = subprocess.Popen([program("bl-simulate"), "--process", "tt:400", "--no-mpi"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        writer.stdout.close()
        said = writer.stderr.read()
        writer.stderr.close()
        self.assertEqual(writer.wait(), 5, said)

    def test_into_the_next_stage(self):
        head = [program("bl-head"), "--n", "5", "--out", str(self.folder / "few.bl")]
        writer = subprocess.Popen([program("bl-simulate"), "--process", "tt:5000", "--no-mpi", "--threads", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        reader = subprocess.run(head, stdin=writer.stdout, capture_output=True)
        writer.stdout.close()
        said = writer.stderr.read()
        writer.stderr.close()
        self.assertEqual((reader.returncode, writer.wait(), said), (0, 0, b""), reader.stderr)
        self.assertEqual(sum(b.events for b in beamline.read(self.folder / "few.bl")), 5)


if __name__ == "__main__":
    unittest.main()
