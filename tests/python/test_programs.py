"""Streams go from Python to the C++ programs and back: the same bytes mean the same to both."""
import subprocess
import tempfile
import unittest
from pathlib import Path

import numpy as np

import beamline
from support import SOURCE, objects, program


class Programs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "events.bl"
        with beamline.Writer(self.path, "objects/1", meta={"generator": {"name": "test"}}, history=[{"stage": "test", "version": "1"}]) as out:
            out.write(objects(500))
            out.write(objects(0, first=500))
            out.write(objects(300, first=500))

    def test_show_reads_it_and_finds_the_same_digest(self):
        done = subprocess.run([program("bl-show"), "--digest", self.path], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(beamline.digest(self.path), done.stdout)

    def test_head_writes_what_python_reads(self):
        few = self.path.with_name("few.bl")
        done = subprocess.run([program("bl-head"), "--n", "600", "--in", self.path, "--out", few], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        stream = beamline.read(few)
        events = beamline.concat(list(stream))
        whole = beamline.concat(list(beamline.read(self.path)))
        first = beamline.select(whole, np.arange(600))
        for name in first:
            np.testing.assert_array_equal(events[name], first[name], name)
        self.assertEqual(stream.hello.meta["generator"], {"name": "test"})
        self.assertEqual([h["stage"] for h in stream.hello.history], ["test", "bl-head"])

    def test_text_comes_back_through_preprocess(self):
        out = self.path.with_name("csv.bl")
        done = subprocess.run([program("bl-preprocess"), "--in", SOURCE / "samples" / "darkmachines.csv", "--out", out], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        text = beamline.select(beamline.concat(list(beamline.read(out))), np.arange(1600))
        sample = beamline.select(beamline.concat(list(beamline.read(SOURCE / "samples" / "anomaly" / "background.bl"))), np.arange(1600))
        self.assertEqual(text.text("process"), sample.text("process"))
        np.testing.assert_array_equal(text["event_id"], sample["event_id"])
        for name in ("object_offsets", "type", "charge", "btag"):
            np.testing.assert_array_equal(text[name], sample[name], name)
        for name in ("met", "met_phi", "pt", "eta", "phi"):
            np.testing.assert_allclose(text[name], sample[name], rtol=1e-5, atol=1e-6, err_msg=name)

    def test_damage_is_refused(self):
        raw = bytearray(self.path.read_bytes())
        raw[len(raw) // 2] ^= 16
        self.path.write_bytes(bytes(raw))
        done = subprocess.run([program("bl-show"), "--digest", self.path], capture_output=True, text=True)
        self.assertEqual(done.returncode, 3, done.stderr)
        with self.assertRaises(beamline.InputError):
            beamline.digest(self.path)


if __name__ == "__main__":
    unittest.main()
