"""The command line of bl-simulate, which needs no Pythia. What it makes: test_simulate_events.py."""
import os
import subprocess
import sys
import tempfile
import tomllib
import unittest
from pathlib import Path

from support import SOURCE, program

CODE = SOURCE / "stages" / "simulate" / "bl_simulate.py"


def run(*arguments, **options):
    return subprocess.run([program("bl-simulate"), *map(str, arguments)], capture_output=True, **options)


class CommandLine(unittest.TestCase):
    def refused(self, pattern, *arguments, code=2):
        done = run(*arguments)
        said = done.stderr.decode()
        self.assertEqual(done.returncode, code, said)
        self.assertRegex(said, r"^bl-simulate: error: [^\n]*" + pattern + r"[^\n]*\n$")
        self.assertEqual(done.stdout, b"")

    def test_help_and_version(self):
        done = run("--help")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        for word in ("Examples:", "ttA500", "Tbqq", "--selection", "Exit codes:"):
            self.assertIn(word, done.stdout.decode())
        self.assertLessEqual(max(map(len, done.stdout.decode().splitlines())), 110)
        self.assertRegex(run("--version").stdout.decode(), r"^bl-simulate \(beamline\) \d+\.\d+\.\d+\n$")
        listed = run("--list").stdout.decode()
        for name in ("ttZ-like", "gluino-4top", "Hgg"):
            self.assertIn(name, listed)

    def test_describe_is_what_a_pipeline_reads(self):
        table = tomllib.loads(run("--describe").stdout.decode())
        self.assertEqual((table["name"], table["writes"], table["reads"]), ("bl-simulate", ["objects/1", "particles/1"], []))
        options = {o["name"]: o for o in table["option"]}
        for name in ("mode", "process", "events", "seed", "out", "threads"):
            self.assertIn(name, options)
            self.assertTrue(options[name]["doc"])
        self.assertEqual(options["selection"]["choices"], ["none", "multitop"])
        self.assertFalse(options["threads"]["effect"])
        self.assertNotIn("effect", options["seed"])

    def test_usage_errors(self):
        self.refused("unknown option '--proces', did you mean --process", "events", "--proces", "tt")
        self.refused("no process 'ttHH' for events, did you mean ttH", "events", "--process", "ttHH")
        self.refused("no process 'tt' for jets", "jets", "--process", "tt")
        self.refused("'tt:many' is not NAME:EVENTS", "--process", "tt:many")
        self.refused("'tt' is there twice", "--process", "tt,tt:5")
        self.refused("'tt' is there twice", "--process", "tt", "--process=tt:5")  # given twice, a list grows
        self.refused("0 is not between 1 and 1024", "--threads", "0")
        self.refused("'x' is not a whole number", "--seed", "x")
        self.refused("'tight' is not one of none, multitop", "--selection", "tight")
        self.refused("--events needs a value", "--events")
        self.refused("'evnets' is neither a mode", "evnets")

    def test_labels(self):
        listed = run("--list").stdout.decode()
        self.assertRegex(listed, r"Tbqq +8  t to bqq'; also top")
        self.refused("no label 'tp', did you mean top", "jets", "--label", "tp")
        self.refused("'TOP' is there twice", "jets", "--label", "t->bqq,TOP")
        self.refused("the jets of 'q' would be in QCD and in q", "jets", "--label", "qcd,quark")
        self.refused("'top:many' is not NAME:EVENTS", "jets", "--label", "top:many")
        self.refused("--label is for jets", "--label", "top")
        self.refused("--label and --process both say", "jets", "--label", "top", "--process", "QCD")
        self.refused("--events 0 leaves nothing to make", "jets", "--label", "top", "--events", 0)

    def test_config_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.toml"
            path.write_text('process = ["nosuch"]\n')
            self.refused("no process 'nosuch'", "--config", path)
            path.write_text("colour = 1\n")
            self.refused("unknown key 'colour'", "--config", path)
            self.refused("b.toml", "--config", Path(folder) / "b.toml")

    def test_what_is_missing_is_named(self):
        program("bl-simulate")
        bare = [sys.executable, "-S", "-I", "-B", "-c",
                "import sys; sys.path[:0] = sys.argv[1:3]; from beamline_simulate.command import main; sys.exit(main(sys.argv[3:], '0'))"]
        done = subprocess.run(bare + [str(CODE.parent), str(SOURCE / "python"), "events", "--process", "tt:1", "--out", "x.bl"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, r"^bl-simulate: error: the Python modules pythia8mc, .*make -f Makefile.workflow venv.*\n$")
        wrong = run("--version", env=dict(os.environ, BEAMLINE_VENV="/nowhere"))
        self.assertEqual(wrong.returncode, 2)
        self.assertIn(b"/nowhere", wrong.stderr)

    def test_help_to_a_full_disk(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full here")
        with open("/dev/full", "wb") as full:
            done = subprocess.run([program("bl-simulate"), "--help"], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 4, done.stderr)


if __name__ == "__main__":
    unittest.main()
