"""The files in samples/ hold what samples/README.md says."""
import unittest

import numpy as np

import beamline
from beamline import darkmachines
from support import SOURCE

SAMPLES = SOURCE / "samples"


def load(name):
    stream = beamline.read(SAMPLES / name)
    return stream, beamline.concat(list(stream))


class Anomaly(unittest.TestCase):
    def check(self, name, label, counts):
        stream, events = load(name)
        names = events.text("process")
        self.assertEqual({n: names.count(n) for n in set(names)}, counts)
        self.assertEqual(set(events["label"].tolist()), {label})
        self.assertEqual(len(set(events["event_id"].tolist())), events.events)
        self.assertEqual(stream.hello.meta["selection"], "multitop")
        self.assertEqual(set(stream.hello.meta["processes"]), set(counts))
        which = np.repeat(np.arange(events.events), events.counts("pt"))
        self.assertGreaterEqual(np.bincount(which, events["type"] == 1).min(), 5)
        self.assertGreaterEqual(np.bincount(which, events["btag"] > 0.5).min(), 2)
        self.assertGreater(np.bincount(which, events["pt"]).min(), 400)
        self.assertTrue((events["pt"][events["type"] == 1] > 30).all())
        return np.bincount(which).mean()

    def test_files(self):
        background = self.check("anomaly/background.bl", 0, {"ttH": 8000, "ttWW-like": 8000, "ttZ-like": 6000, "tt": 3000})
        a500 = self.check("anomaly/signal_ttA500.bl", 1, {"ttA500": 5000})
        gluino = self.check("anomaly/signal_gluino.bl", 1, {"gluino-4top": 4000})
        self.assertLess(background + 1, a500)
        self.assertLess(a500, gluino)

    def test_processes_are_mixed(self):
        _, events = load("anomaly/background.bl")
        names = np.array(events.text("process"))
        for part in np.array_split(names, 10):
            self.assertAlmostEqual((part == "ttH").mean(), 8000 / 25000, delta=0.01)

    def test_size(self):
        total = sum(p.stat().st_size for p in SAMPLES.rglob("*") if p.is_file())
        self.assertLess(total, 15_000_000)


class Jets(unittest.TestCase):
    def test_classes(self):
        _, jets = load("jets.bl")
        names = np.array(jets.text("process"))
        masses = {"Hbb": (110, 135), "Hcc": (110, 135), "Hgg": (110, 140), "Zqq": (85, 105), "Wqq": (75, 95), "Tbqq": (160, 190)}
        for name, (low, high) in masses.items():
            self.assertTrue(low < np.median(jets["jet_mass"][names == name]) < high, name)
        self.assertTrue(((jets["jet_pt"] > 500) & (jets["jet_pt"] < 1000)).all())
        which = np.repeat(np.arange(jets.events), jets.counts("pt"))
        self.assertAlmostEqual(np.median(np.bincount(which, jets["pt"]) / jets["jet_pt"]), 1.0, delta=0.03)
        far = np.abs(jets["d0"]) > 5 * jets["d0_error"]
        tracks = jets["charge"] != 0
        self.assertFalse(far[~tracks].any())
        fraction = {n: far[tracks & (names[which] == n)].mean() for n in ("Hbb", "Hcc", "QCD-q")}
        self.assertGreater(fraction["Hbb"], 2 * fraction["Hcc"])
        self.assertGreater(fraction["Hcc"], 2 * fraction["QCD-q"])


class DarkMachines(unittest.TestCase):
    def test_csv_says_what_the_streams_say(self):
        text = (SAMPLES / "darkmachines.csv").read_text().splitlines()
        self.assertEqual(len(text), 2000)
        _, events = load("anomaly/background.bl")
        for i in (0, 7, 1599):
            fields = text[i].rstrip(";").split(";")
            self.assertEqual(fields[:2], [str(events["event_id"][i]), events.text("process")[i]])
            self.assertAlmostEqual(float(fields[3]) / 1000, events["met"][i], delta=1e-3 * events["met"][i])
            for field, kind, pt, mass in zip(fields[5:], events.event("type", i), events.event("pt", i), events.event("mass", i), strict=True):
                name, e, p, eta, _ = field.split(",")
                self.assertEqual(name in ("j", "b"), kind == 1)
                self.assertAlmostEqual(float(p), pt * 1000, delta=1e-4 * float(p))
                m2 = float(e) ** 2 - (float(p) * np.cosh(float(eta))) ** 2
                self.assertAlmostEqual(m2, (mass * 1000) ** 2, delta=2e-5 * float(e) ** 2)

    def test_lines(self):
        schema = beamline.load_schema("objects/1")
        batch = schema.batch({
            "event_index": [0], "event_id": [7], "weight": [0.5], **beamline.text_column("process", ["x"]), "met": [12.5], "met_phi": [-1.5],
            "object_offsets": [0, 4], "type": [1, 1, 2, 5], "charge": [0, 0, -1, 1], "pt": [100.0, 50.0, 20.0, 19.0], "eta": [0.0, 0.0, 0.0, 0.0],
            "phi": [1.0, 2.0, 3.0, 0.0], "mass": [10.0, 0.0, 0.0, 1.7], "btag": [1.0, 0.0, 0.0, 0.0]})
        self.assertEqual(list(darkmachines.lines(batch)), ["7;x;0.5;12500;-1.5;b,100499,100000,0,1;j,50000,50000,0,2;e-,20000,20000,0,3;\n"])


if __name__ == "__main__":
    unittest.main()
