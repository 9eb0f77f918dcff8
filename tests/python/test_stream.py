"""Streams: what is written is read, damage is found, nothing half-written stays."""
import io
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

import beamline
from support import SOURCE, objects


def write(path, batches, **options):
    with beamline.Writer(path, "objects/1", meta={"note": "test", "nested": {"x": [1, 2.5]}}, history=[{"stage": "test"}], **options) as out:
        for b in batches:
            out.write(b)


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "events.bl"


class RoundTrip(Folder):
    def test_columns_come_back(self):
        batches = [objects(50), objects(1, first=50), objects(0, first=51), objects(200, first=51)]
        write(self.path, batches)
        stream = beamline.read(self.path)
        self.assertEqual(stream.hello.schema, "objects/1")
        self.assertEqual(stream.hello.meta, {"note": "test", "nested": {"x": [1, 2.5]}})
        self.assertEqual(stream.hello.history, [{"stage": "test"}])
        self.assertEqual(stream.schema.columns["pt"].unit, "GeV")
        read = list(stream)
        self.assertEqual([b.seq for b in read], [0, 1, 2, 3])
        self.assertEqual([b.events for b in read], [50, 1, 0, 200])
        for a, b in zip(batches, read):
            self.assertEqual(set(a), set(b))
            for name in a:
                self.assertEqual(a[name].dtype, b[name].dtype, name)
                np.testing.assert_array_equal(a[name], b[name], name)
        self.assertEqual(read[0].dims["pt"], ("object",))
        self.assertEqual(read[0].text("process")[:4], ["tt", "ttH", "", "tt"])
        self.assertFalse(os.path.exists(str(self.path) + ".part"))

    def test_columns_start_on_64_bytes(self):
        write(self.path, [objects(7)])
        raw = self.path.read_bytes()
        for batch in beamline.read(self.path):
            for name, values in batch.items():
                if values.nbytes > 8:
                    self.assertEqual(raw.index(values.tobytes()) % 64, 0, name)

    def test_no_batches(self):
        write(self.path, [])
        self.assertEqual(list(beamline.read(self.path)), [])

    def test_file_objects(self):
        buffer = io.BytesIO()
        write(buffer, [objects(20)])
        self.assertEqual([b.events for b in beamline.read(io.BytesIO(buffer.getvalue()))], [20])

    def test_same_input_same_bytes(self):
        a, b = io.BytesIO(), io.BytesIO()
        write(a, [objects(30)])
        write(b, [objects(30)])
        self.assertEqual(a.getvalue(), b.getvalue())

    def test_through_a_pipe_of_processes(self):
        write(self.path, [objects(3000, first=3000 * i) for i in range(20)])
        code = "import sys, beamline\nwith beamline.Writer('-', 'objects/1') as out:\n  for b in beamline.read('-'): out.write(b)\n"
        environment = dict(os.environ, PYTHONPATH=str(SOURCE / "python"))
        copy = self.path.with_name("copy.bl")
        with open(self.path, "rb") as source, open(copy, "wb") as target:
            first = subprocess.Popen([sys.executable, "-c", code], stdin=source, stdout=subprocess.PIPE, env=environment)
            second = subprocess.Popen([sys.executable, "-c", code], stdin=first.stdout, stdout=target, env=environment)
            first.stdout.close()
            self.assertEqual((second.wait(), first.wait()), (0, 0))
        self.assertEqual(beamline.digest(copy), beamline.digest(self.path))


class Damage(Folder):
    def setUp(self):
        super().setUp()
        write(self.path, [objects(40), objects(40, first=40)])
        self.raw = self.path.read_bytes()

    def read(self, raw):
        return list(beamline.read(io.BytesIO(raw)))

    def test_truncated_anywhere(self):
        for n in list(range(0, len(self.raw), 64)) + [4, 63, 65, len(self.raw) - 1]:
            with self.assertRaises(beamline.UpstreamError, msg=f"cut to {n} bytes") as caught:
                self.read(self.raw[:n])
            self.assertIn("without END", str(caught.exception))

    def test_any_flipped_bit(self):
        rng = np.random.default_rng(3)
        for at in list(rng.integers(0, len(self.raw), 300)) + list(range(64)):
            raw = bytearray(self.raw)
            raw[at] ^= 1 << int(rng.integers(8))
            with self.assertRaises(beamline.InputError, msg=f"byte {at}"):
                self.read(bytes(raw))

    def test_a_batch_left_out_or_doubled(self):
        frames, at = [], 0
        while at < len(self.raw):
            length = 64 + (int.from_bytes(self.raw[at + 24:at + 32], "little") + 63) // 64 * 64
            frames.append(self.raw[at:at + length])
            at += length
        self.assertEqual(len(frames), 4)
        for wrong in ([0, 1, 3], [0, 1, 1, 2, 3], [0, 1, 1, 3]):
            with self.assertRaisesRegex(beamline.InputError, "END counts"):
                self.read(b"".join(frames[i] for i in wrong))
        self.assertEqual(len(self.read(b"".join(frames[i] for i in (0, 2, 1, 3)))), 2)  # the order of arrival is free

    def test_bytes_after_end(self):
        self.path.write_bytes(self.raw + self.raw)
        with self.assertRaisesRegex(beamline.InputError, "follow END"):
            list(beamline.read(self.path))

    def test_not_a_stream(self):
        with self.assertRaisesRegex(beamline.InputError, "not a beamline stream"):
            self.read(b"event ID;process ID;event weight;MET;METphi;obj1,E1,pt1,eta1,phi1;")

    def test_missing_file(self):
        with self.assertRaisesRegex(beamline.InputError, "nowhere.bl"):
            beamline.read(self.path.with_name("nowhere.bl"))

    def test_another_definition_of_the_schema(self):
        schema = beamline.load_schema("objects/1")
        schema.hash ^= 1
        buffer = io.BytesIO()
        with beamline.Writer(buffer, schema) as out:
            out.write(objects(3))
        with self.assertRaisesRegex(beamline.InputError, "another definition of 'objects/1'"):
            self.read(buffer.getvalue())
        self.assertEqual(len(list(beamline.read(io.BytesIO(buffer.getvalue()), check=False))), 1)

    def test_newer_schema(self):
        schema = beamline.load_schema("objects/1")
        schema.version = 7
        buffer = io.BytesIO()
        with beamline.Writer(buffer, schema) as out:
            out.write(objects(3))
        with self.assertRaisesRegex(beamline.InputError, "objects/7"):
            self.read(buffer.getvalue())


class Writing(Folder):
    def test_an_error_leaves_no_file(self):
        with self.assertRaises(ZeroDivisionError):
            with beamline.Writer(self.path, "objects/1") as out:
                out.write(objects(5))
                1 / 0
        self.assertEqual(os.listdir(self.path.parent), [])

    def test_an_error_aborts_a_pipe(self):
        buffer = io.BytesIO()
        with self.assertRaises(ValueError):
            with beamline.Writer(buffer, "objects/1") as out:
                out.write(objects(5))
                raise ValueError("the generator broke")
        stream = beamline.read(io.BytesIO(buffer.getvalue()))
        self.assertEqual(next(stream).events, 5)
        with self.assertRaisesRegex(beamline.UpstreamError, "the generator broke"):
            next(stream)

    def test_existing_file(self):
        write(self.path, [objects(5)])
        with self.assertRaisesRegex(beamline.WriteError, "exists"):
            beamline.Writer(self.path, "objects/1")
        write(self.path, [objects(6)], force=True)
        self.assertEqual(next(beamline.read(self.path)).events, 6)

    def test_full_disk(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full here")
        with open("/dev/full", "wb", buffering=0) as full, self.assertRaises(beamline.WriteError) as caught:
            write(full, [objects(5)])
        self.assertIn("No space left", str(caught.exception))

    def test_missing_folder(self):
        with self.assertRaisesRegex(beamline.WriteError, "cannot create"):
            beamline.Writer(self.path.parent / "no" / "such.bl", "objects/1")

    def test_reader_gone(self):
        code = ("import sys, beamline\nsys.path.insert(0, %r)\nfrom support import objects\n"
                "try:\n  with beamline.Writer('-', 'objects/1') as out:\n"
                "    for i in range(1000):\n      out.write(objects(3000, first=i))\n      if not out.wanted: break\n"
                "except beamline.Error as e:\n  print(e, file=sys.stderr)\n  sys.exit(e.code)\n") % str(Path(__file__).parent)
        environment = dict(os.environ, PYTHONPATH=str(SOURCE / "python"))
        for enough, code_wanted in ((False, 5), (True, 0)):
            writer = subprocess.Popen([sys.executable, "-B", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
            writer.stdout.read(100)
            if enough:  # what bl-head does when it has its events
                os.fchmod(writer.stdout.fileno(), 0o1600)
            writer.stdout.close()
            said = writer.stderr.read().decode()
            writer.stderr.close()
            self.assertEqual(writer.wait(), code_wanted, said)
            self.assertRegex(said, r"^$" if enough else r"^the reader of standard output went away after \d+ batches\n$")

    def test_schema_violations(self):
        def broken(message, **columns):
            batch = objects(10)
            batch.update(columns)
            batch = {k: v for k, v in batch.items() if v is not None}
            with self.assertRaisesRegex(beamline.InputError, message):
                write(io.BytesIO(), [batch])
        good = objects(10)
        broken("'pt' of objects/1 is missing", pt=None)
        broken("'depth' is not part of objects/1", depth=np.zeros(10))
        broken("'met', entry 3: nan is not a finite number", met=np.where(np.arange(10) == 3, np.nan, 1))
        broken("'pt', entry 0: -1.0 GeV is below 0.0", pt=-np.ones_like(good["pt"]))
        broken("'type', entry 0: 9 is above 5", type=np.full_like(good["type"], 9))
        broken("'type', entry 0: 300 does not fit in u8", type=np.full(len(good["type"]), 300))
        broken("'charge' holds float64, expected i8", charge=good["charge"].astype(float))
        broken("'eta' has shape", eta=good["eta"][:-1])
        broken("'object_offsets', entry 2: 0 is below", object_offsets=np.array([0, 3, 0, 3, 3, 3, 3, 3, 3, 3, 3]))


class Digests(unittest.TestCase):
    def test_free_of_batching_and_order(self):
        schema = beamline.load_schema("objects/1")
        whole = schema.batch(objects(300))

        def text(batches):
            digest = beamline.Digest()
            for b in batches:
                digest.add(b)
            return digest.text()
        expected = text([whole])
        order = np.random.default_rng(1).permutation(300)
        self.assertEqual(text([beamline.select(whole, order)]), expected)
        parts = [beamline.select(whole, np.arange(a, b)) for a, b in ((0, 1), (1, 120), (120, 300))]
        self.assertEqual(text(parts), expected)
        self.assertEqual(text([beamline.concat(parts)]), expected)
        changed = beamline.select(whole, np.arange(300))
        changed["pt"] = changed["pt"].copy()
        changed["pt"][7] *= 1.0001
        self.assertNotEqual(text([changed]), expected)

    def test_value(self):
        # The digest is part of the format: a change of it is a change for every program.
        batch = beamline.Batch(dims={"met": ("event",), "object_offsets": ("event+1",), "pt": ("object",), "matrix": ("event", "2")}, events=3)
        batch["met"] = np.array([1.5, 2.5, 3.5], np.float32)
        batch["object_offsets"] = np.array([0, 2, 2, 300], np.uint32)
        batch["pt"] = np.arange(300, dtype=np.float32)
        batch["matrix"] = np.arange(6, dtype=np.int64).reshape(3, 2)
        digest = beamline.Digest()
        digest.add(batch)
        self.assertEqual(digest.text(), "c963bb2f5f56888e2b07c915250e7737")


class Ragged(unittest.TestCase):
    def test_pad_and_back(self):
        values, offsets = np.arange(6.0), np.array([0, 2, 2, 6])
        padded, mask = beamline.pad(values, offsets, fill=-1)
        np.testing.assert_array_equal(padded, [[0, 1, -1, -1], [-1, -1, -1, -1], [2, 3, 4, 5]])
        back, back_offsets = beamline.unpad(padded, mask)
        np.testing.assert_array_equal(back, values)
        np.testing.assert_array_equal(back_offsets, offsets)
        cut, cut_mask = beamline.pad(values, offsets, length=3)
        np.testing.assert_array_equal(cut, [[0, 1, 0], [0, 0, 0], [2, 3, 4]])
        np.testing.assert_array_equal(cut_mask.sum(axis=1), [2, 0, 3])

    def test_text(self):
        batch = beamline.load_schema("objects/1").batch(objects(4))
        self.assertEqual(batch.text("process"), ["tt", "ttH", "", "tt"])
        self.assertEqual(list(beamline.text_column("a", ["é", ""])["a_char_offsets"]), [0, 2, 2])

    def test_one_event(self):
        batch = beamline.load_schema("objects/1").batch(objects(10))
        offsets = batch["object_offsets"]
        np.testing.assert_array_equal(batch.event("pt", 3), batch["pt"][offsets[3]:offsets[4]])
        self.assertEqual(batch.counts("pt")[0], 0)


if __name__ == "__main__":
    unittest.main()
