"""bl-import: jets of ROOT and Parquet files. The command line is tested everywhere; what it reads, where its environment
(python/make_venv.sh FOLDER import) is. write_tables.py makes the files there; real ones are read where BEAMLINE_DATA is."""
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import unittest
from pathlib import Path

import numpy as np

import beamline
from support import BIN, SOURCE, program

DATA = Path(os.environ.get("BEAMLINE_DATA", SOURCE / ".." / "shared" / "data"))
CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
FLAGS = {"part_isChargedHadron": 211, "part_isNeutralHadron": 130, "part_isPhoton": 22, "part_isElectron": 11, "part_isMuon": 13}


def run(*arguments, **options):
    return subprocess.run([program("bl-import"), *map(str, arguments)], capture_output=True, **options)


def environment_or_skip():
    """The interpreter of bl-import's environment."""
    named = os.environ.get("BEAMLINE_IMPORT_VENV")
    for venv in [Path(named)] if named else [BIN.parent / ".venv-import", SOURCE / ".venv-import"]:
        if (venv / "bin" / "python").exists():
            return str(venv / "bin" / "python")
    raise unittest.SkipTest("no Python environment with uproot and pyarrow; make -f Makefile.workflow venv-import")


class CommandLine(unittest.TestCase):
    def refused(self, pattern, *arguments, code=2):
        done = run(*arguments)
        said = done.stderr.decode()
        self.assertEqual(done.returncode, code, said)
        self.assertRegex(said, r"^bl-import: error: [^\n]*" + pattern + r"[^\n]*\n$")
        self.assertEqual(done.stdout, b"")

    def test_help_and_describe(self):
        done = run("--help")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        for word in ("Examples:", "particles/1", "--map", "is_charged_hadron", "Exit codes:"):
            self.assertIn(word, done.stdout.decode())
        self.assertLessEqual(max(map(len, done.stdout.decode().splitlines())), 110)
        table = tomllib.loads(run("--describe").stdout.decode())
        self.assertEqual((table["name"], table["writes"], table["reads_files"]), ("bl-import", ["particles/1"], True))
        options = {o["name"]: o for o in table["option"]}
        self.assertEqual(options["unit"]["choices"], ["GeV", "MeV"])
        self.assertFalse(options["threads"]["effect"])

    def test_usage_errors(self):
        self.refused("no file to read")
        self.refused("unknown option '--evnts', did you mean --events", "--evnts", "5", "a.root")
        self.refused("'pt' is not NAME=COLUMN", "--map", "pt", "a.root")
        self.refused("there is no 'pz_rel' to fill", "--map", "pz_rel=a", "a.root")
        self.refused("'pt' is there twice", "--map", "pt=a,pt=b", "a.root")
        self.refused("--label: 'top' is not a whole number", "--label", "top", "a.root")
        self.refused("'keV' is not one of GeV, MeV", "--unit", "keV", "a.root")
        self.refused("is not a name of up to 255", "--process", "tä", "a.root")

    def test_what_is_missing_is_named(self):
        program("bl-import")
        bare = [sys.executable, "-S", "-I", "-B", "-c",
                "import sys; sys.path[:0] = sys.argv[1:3]; from beamline_import.command import main; sys.exit(main(sys.argv[3:], '0'))"]
        done = subprocess.run(bare + [str(SOURCE / "stages" / "import"), str(SOURCE / "python"), "a.root"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, r"^bl-import: error: the Python modules uproot, .*make -f Makefile.workflow venv-import.*\n$")


def numbers(n=30, seed=1):
    """Columns of JetClass-like jets: {name: array}, "offsets" and one flag a class. The third jet has no constituents."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(3, 40, n)
    counts[2] = 0
    total = int(counts.sum())
    jet_eta, jet_phi = rng.uniform(-2, 2, n), rng.uniform(-np.pi, np.pi, n)
    pt, eta_rel, phi_rel = rng.exponential(20, total) + 0.5, rng.normal(0, 0.2, total), rng.normal(0, 0.2, total)
    mass = rng.uniform(0, 1, total)
    eta, phi = np.repeat(jet_eta, counts) + eta_rel, np.repeat(jet_phi, counts) + phi_rel
    kind, species = rng.integers(0, 10, n), rng.integers(0, 5, total)
    jet_pt = rng.uniform(500, 1000, n)
    columns = {
        "part_px": pt * np.cos(phi), "part_py": pt * np.sin(phi), "part_pz": pt * np.sinh(eta), "part_energy": np.sqrt((pt * np.cosh(eta))**2 + mass**2),
        "part_deta": eta_rel * np.repeat(np.where(jet_eta > 0, 1, -1), counts), "part_dphi": phi_rel,
        "part_pt": pt, "part_etarel": eta_rel, "part_phirel": phi_rel, "part_mass": mass,
        "part_d0val": rng.normal(0, 1, total), "part_d0err": rng.uniform(0, 1, total), "part_dzval": rng.normal(0, 1, total), "part_dzerr": rng.uniform(0, 1, total),
        "jet_pt": jet_pt, "jet_eta": jet_eta, "jet_phi": jet_phi, "jet_energy": np.sqrt((jet_pt * np.cosh(jet_eta))**2 + 80.0**2),
    }
    columns = {k: v.astype(np.float32) for k, v in columns.items()}
    columns["part_charge"] = rng.integers(-1, 2, total, dtype=np.int32)
    columns.update({name: (species == i).astype(np.int8) for i, name in enumerate(FLAGS)})
    columns.update({f"label_{name}": (kind == i).astype(np.int32) for i, name in enumerate(CLASSES)})
    columns.update(kind=kind.astype(np.int32), offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
    return columns


class Reading(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        python = environment_or_skip()
        program("bl-import")
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.scratch.name)
        cls.numbers = numbers()
        np.savez(cls.folder / "numbers.npz", **cls.numbers)
        subprocess.run([python, "-B", SOURCE / "tests" / "python" / "write_tables.py", cls.folder / "numbers.npz", cls.folder], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def read(self, *arguments):
        """(stream, all jets); files are named without their folder."""
        out = self.folder / "out.bl"
        done = run("--force", "--out", out, *arguments, cwd=self.folder)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""), done.stderr.decode())
        stream = beamline.read(out)
        return stream, beamline.concat(list(stream))

    def refused(self, pattern, *arguments, code=3):
        out = self.folder / "refused.bl"
        done = run("--out", out, *arguments, cwd=self.folder)
        said = done.stderr.decode()
        self.assertEqual(done.returncode, code, said)
        self.assertRegex(said, r"^bl-import: error: [^\n]*" + pattern + r"[^\n]*\n$")
        self.assertEqual([p.name for p in self.folder.glob("refused*")], [])

    def check_momenta(self, jets, n):
        """Against numpy, in double precision."""
        np.testing.assert_array_equal(jets.offsets("pt"), n["offsets"])
        px, py, pz = (n[f"part_{k}"].astype(np.float64) for k in ("px", "py", "pz"))
        np.testing.assert_allclose(jets["pt"], np.sqrt(px**2 + py**2), rtol=1e-6)
        np.testing.assert_allclose(jets["eta"], np.arctanh(pz / np.sqrt(px**2 + py**2 + pz**2)), rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(np.exp(1j * jets["phi"]), np.exp(1j * np.arctan2(py, px)), atol=1e-6)

    def test_jetclass(self):
        n = self.numbers
        stream, jets = self.read("jets.root")
        self.assertEqual(jets.events, 30)
        self.check_momenta(jets, n)
        energy2 = n["part_energy"].astype(np.float64)**2 - sum(n[f"part_{k}"].astype(np.float64)**2 for k in ("px", "py", "pz"))
        np.testing.assert_allclose(jets["mass"].astype(np.float64)**2, np.maximum(energy2, 0), atol=2e-6 * n["part_energy"].max()**2)
        for ours, theirs in (("d0", "part_d0val"), ("d0_error", "part_d0err"), ("dz", "part_dzval"), ("dz_error", "part_dzerr"), ("charge", "part_charge"),
                             ("jet_pt", "jet_pt"), ("jet_eta", "jet_eta"), ("jet_phi", "jet_phi"), ("label", "kind")):
            np.testing.assert_array_equal(jets[ours], n[theirs], ours)
        pid = sum(n[name].astype(np.int32) * number for name, number in FLAGS.items())
        np.testing.assert_array_equal(jets["pid"], pid)
        np.testing.assert_allclose(jets["jet_mass"], 80, rtol=1e-3)
        self.assertEqual(jets.text("process"), [CLASSES[k] for k in n["kind"]])
        np.testing.assert_array_equal(jets["event_index"], np.arange(30))
        self.assertEqual(stream.hello.history[0]["stage"], "bl-import")
        self.assertEqual(stream.hello.history[0]["inputs"][0]["path"], "jets.root")
        self.assertEqual(int(stream.hello.history[0]["inputs"][0]["hash"], 16), beamline.hash64((self.folder / "jets.root").read_bytes()))
        self.assertEqual(stream.hello.meta["labels"], {str(i): name for i, name in enumerate(CLASSES)})
        self.assertEqual(stream.hello.meta["import"]["columns"]["px"], "part_px")

    def test_the_same_jets_in_every_container(self):
        digests = set()
        for name in ("jets.root", "rntuple.root", "jets.parquet", "large.parquet"):
            self.read(name)
            digests.add(beamline.digest(self.folder / "out.bl"))
        self.assertEqual(len(digests), 1)

    def test_relative_to_the_jet(self):
        _, jets = self.read("records.parquet", "--names", ",".join(CLASSES))
        self.check_momenta(jets, self.numbers)
        np.testing.assert_allclose(jets["mass"], self.numbers["part_mass"])
        self.assertEqual(jets.text("process"), [CLASSES[k] for k in self.numbers["kind"]])
        # JetClass turns the sign of the difference with the jet's
        _, jets = self.read("signed.parquet")
        self.check_momenta(jets, self.numbers)
        self.assertNotIn("mass", self.read("jets.parquet", "--map", "energy=")[1])
        stream, jets = self.read("bare.parquet", "--label", 3, "--process", "made")
        np.testing.assert_allclose(jets["eta"], self.numbers["part_etarel"], rtol=1e-6)
        self.assertEqual((set(jets["label"].tolist()), set(jets.text("process"))), ({3}, {"made"}))
        self.assertIn("turned to eta = 0", stream.hello.meta["import"]["jet_eta"])

    def test_other_names(self):
        _, jets = self.read("other.parquet", "--map", "pt=x,eta=y,phi=z,label=kind", "--unit", "MeV")
        np.testing.assert_allclose(jets["pt"], self.numbers["part_pt"] * 1e-3, rtol=1e-6)
        np.testing.assert_allclose(jets["eta"], self.numbers["part_etarel"])
        np.testing.assert_array_equal(jets["label"], self.numbers["kind"])
        self.refused("has no momenta of constituents: neither part_pt nor part_px, part_py, part_pz; there are x, y, z, kind; name others by --map", "other.parquet")
        self.refused("has no column 'xx' of numbers for pt, did you mean 'x'", "other.parquet", "--map", "pt=xx")
        self.refused("has no direction of the constituents in phi", "other.parquet", "--map", "pt=x,eta=y")
        self.refused("'kind' holds one value a jet, a list of the constituents is expected for pt", "other.parquet", "--map", "pt=kind,eta=y,phi=z")
        self.refused("'x' holds lists, one value a jet is expected for label", "other.parquet", "--map", "pt=x,eta=y,phi=z,label=x")
        self.refused("--map pt=part_d0val would not be used", "jets.root", "--map", "pt=part_d0val", code=2)

    def test_part_of_several_files(self):
        _, whole = self.read("jets.root")
        _, jets = self.read("jets.root,jets.parquet", "jets.root")
        self.assertEqual(jets.events, 90)
        np.testing.assert_array_equal(jets["event_index"], np.arange(90))
        np.testing.assert_array_equal(jets["event_id"], np.arange(90))
        np.testing.assert_array_equal(jets["pt"][-len(whole["pt"]):], whole["pt"])
        _, part = self.read("jets.root", "jets.parquet", "--skip", 25, "--events", 20)
        np.testing.assert_array_equal(part["event_index"], np.arange(25, 45))
        np.testing.assert_array_equal(part["pt"], beamline.select(jets, np.arange(25, 45))["pt"])
        _, part = self.read("[jl][ea]*.parquet", "--skip", 38, "--events", 9)  # a pattern: jets.parquet, then large.parquet
        np.testing.assert_array_equal(part["pt"], beamline.select(whole, np.arange(8, 17))["pt"])
        _, part = self.read("jets.parquet", "--skip", 8, "--events", 9)  # from inside a row group into another
        np.testing.assert_array_equal(part["pt"], beamline.select(whole, np.arange(8, 17))["pt"])

    def test_bad_files(self):
        self.refused("tree 'tree' of 'missing.root' has no momenta of constituents: neither part_pt nor part_py; there are .*part_px, .*part_pz, ", "missing.root")
        self.refused("'lengths.root', jet 29: 'part_px' holds .* values and 'part_py' ", "lengths.root")
        self.refused("'nan.root', jet 5, particle 2, pz: nan is not a finite number", "nan.root")
        self.refused("'null.parquet', jet 5, particle 2, pz: nan is not a finite number", "null.parquet")
        self.refused("'cold.root', jet 3, particle 0, energy: .* is below the momentum", "cold.root")
        self.refused("'both.root', jet .*: .*Hbb.* are both set, a jet has one label", "both.root")
        self.refused("'trees.root' holds several trees, train, test: name one by --tree", "trees.root")
        self.refused("'trees.root' has no tree 'valid'; there are train, test", "trees.root", "--tree", "valid")
        self.assertEqual(self.read("trees.root", "--tree", "test")[1].events, 30)
        self.refused("'cut.root'.* cannot be read", "cut.root")
        for sample, place, pattern in (("jetclass.root", 0.75, "branch 'part_d0err' cannot be read"),  # a compressed basket: others have no checksum
                                       ("jetclass.parquet", 0.25, "cannot be read: .*CRC")):
            damaged = bytearray((SOURCE / "samples" / sample).read_bytes())
            damaged[int(len(damaged) * place)] ^= 16
            (self.folder / "damaged").write_bytes(bytes(damaged))
            self.refused("'damaged'.*" + pattern, "damaged")
        self.refused("'cut.parquet' cannot be read as Parquet", "cut.parquet")
        self.refused("'empty.root' holds no jets", "empty.root")
        self.refused("--skip 30 passes over all of them", "jets.root", "--skip", 30)
        self.refused("'numbers.npz' is neither a ROOT nor a Parquet file", "numbers.npz")
        self.refused("cannot open 'none.root': No such file", "none.root")
        self.refused("no file matches 'none\\*.root'", "none*.root")
        self.refused("'jets.root' and 'bare.parquet' have different columns: import them apart", "jets.root", "bare.parquet", code=2)
        self.refused("--collection is for NanoAOD and Delphes", "jets.parquet", "--collection", "Jet", code=2)

    def test_into_bl_preprocess(self):
        reader = [program("bl-preprocess"), "--select", "jet_pt > 600 && n_particles > 0", "--out", str(self.folder / "selected.bl")]
        with subprocess.Popen([program("bl-import"), "jets.root"], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
            done = subprocess.run(reader, stdin=writer.stdout, capture_output=True)
            writer.stdout.close()
            self.assertEqual((done.returncode, writer.wait(), writer.stderr.read(), done.stderr), (0, 0, b"", b""))
        stream = beamline.read(self.folder / "selected.bl")
        jets = beamline.concat(list(stream))
        keep = np.flatnonzero((self.numbers["jet_pt"] > 600) & (np.diff(self.numbers["offsets"]) > 0))
        np.testing.assert_array_equal(jets["event_index"], keep)
        self.assertTrue((np.diff(jets.event("pt", 0)) <= 0).all())
        self.assertEqual([h["stage"] for h in stream.hello.history], ["bl-import", "bl-preprocess"])

    def test_contract_of_all_stages(self):
        done = subprocess.run([sys.executable, "-B", SOURCE / "tests" / "contract" / "contract.py", BIN, "bl-import", SOURCE / "stages" / "import" / "contract.toml"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_samples_are_jets_of_jets_bl(self):
        original = beamline.select(beamline.concat(list(beamline.read(SOURCE / "samples" / "jets.bl"))), np.arange(100))
        for name in ("jetclass.root", "jetclass.parquet"):
            _, jets = self.read(SOURCE / "samples" / name)
            np.testing.assert_array_equal(jets["label"], original["label"])
            for column in ("particle_offsets", "charge", "d0", "d0_error", "dz", "dz_error", "jet_pt", "jet_eta", "jet_phi"):
                np.testing.assert_array_equal(jets[column], original[column], column)
            np.testing.assert_array_equal(jets["pid"], np.abs(original["pid"]))
            np.testing.assert_allclose(jets["pt"], original["pt"], rtol=1e-6)
            np.testing.assert_allclose(jets["eta"], original["eta"], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(np.exp(1j * jets["phi"]), np.exp(1j * original["phi"]), atol=1e-6)
            np.testing.assert_allclose(jets["jet_mass"], original["jet_mass"], rtol=1e-3)

    def test_commands_of_the_documentation(self):
        for name in ("samples", "pipelines"):
            (self.folder / name).symlink_to(SOURCE / name)
        environment = dict(os.environ, LC_ALL="C.UTF-8", PATH=f"{BIN}:{os.environ['PATH']}")
        ran = 0
        for page in sorted((SOURCE / "docs").glob("*.md")):
            for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.M | re.S):
                commands = block.replace("\\\n", " ").splitlines()
                for command in (c for c in commands if c.startswith("bl-import")):
                    done = subprocess.run(["bash", "-eu", "-o", "pipefail", "-c", command], cwd=self.folder, env=environment, capture_output=True, text=True)
                    self.assertEqual(done.returncode, 0, f"{page.name}: {command}\n{done.stderr}")
                    ran += 1
        self.assertGreater(ran, 1)


class RealFiles(unittest.TestCase):
    def setUp(self):
        environment_or_skip()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def file(self, name):
        path = DATA / name
        if not path.exists():
            self.skipTest(f"{path} is not here: BEAMLINE_DATA names a folder that has it")
        return path

    def through(self, name, *arguments):
        path = self.folder / "out.bl"
        done = run("--force", "--out", path, *arguments) if name == "bl-import" else subprocess.run(
            [program(name), *map(str, arguments), "--force", "--out", path], capture_output=True)
        self.assertEqual((done.returncode, done.stderr), (0, b""), done.stderr.decode())
        return beamline.concat(list(beamline.read(path)))

    def test_jetclass2_is_what_its_hdf5_copy_is(self):
        parquet, copy = self.file("jetclass2/JetClassII_example.parquet"), self.file("jetclass2/JetClassII_example_100jets.h5")
        self.through("bl-import", parquet)
        (self.folder / "out.bl").rename(self.folder / "imported.bl")
        ours = self.through("bl-preprocess", "--in", self.folder / "imported.bl")
        theirs = self.through("bl-preprocess", "--in", copy)
        self.assertEqual((ours.events, len(ours["pt"])), (100, 4529))
        self.assertEqual(set(ours) - set(theirs), {"jet_mass"})
        for name in theirs:
            if theirs[name].dtype.kind == "f":  # two libraries of mathematical functions
                np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, atol=1e-6, err_msg=name)
            else:
                np.testing.assert_array_equal(ours[name], theirs[name], name)
        self.assertEqual(ours["label"][0], 92)

    def momentum(self, jets, i):
        pt, phi = jets.event("pt", i).astype(np.float64), jets.event("phi", i).astype(np.float64)
        return np.hypot((pt * np.cos(phi)).sum(), (pt * np.sin(phi)).sum())

    def test_nanoaod(self):
        path = self.file("nanoaod/pfnano.root")
        jets = self.through("bl-import", path)
        self.assertEqual((jets.events, len(set(jets["event_id"].tolist()))), (24, 10))
        self.assertEqual(jets["event_id"][0], 1735802)
        # the file's jets are corrected by up to 15 %
        ratio = [self.momentum(jets, i) / jets["jet_pt"][i] for i in range(jets.events)]
        self.assertTrue(0.8 < min(ratio) and max(ratio) < 1, ratio)
        jets = self.through("bl-import", path, "--collection", "Jet", "--skip", 3, "--events", 50)
        self.assertEqual(jets.events, 50)
        self.assertEqual(jets["event_index"][0], 3)

    def test_delphes(self):
        path = self.file("delphes/sophon_events_delphes_example.root")
        jets = self.through("bl-import", path, "--collection", "JetPUPPIAK8")
        self.assertEqual(jets.events, 22)
        for i in range(jets.events):  # its constituents are the jet
            self.assertAlmostEqual(self.momentum(jets, i) / jets["jet_pt"][i], 1, delta=2e-5)
        self.assertTrue((jets["pt"] > 0).all())
        for arguments, code, pattern in ((("--collection", "Jet"), 3, "not among its ParticleFlowCandidates: 1634 of 1648"), ((), 2, "name one by --collection; there are .*JetPUPPIAK8")):
            done = run(path, *arguments, "--out", self.folder / "no.bl")
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertRegex(done.stderr.decode(), pattern)


if __name__ == "__main__":
    unittest.main()
