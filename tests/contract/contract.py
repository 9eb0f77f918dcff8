#!/usr/bin/env python3
"""What every stage promises, checked on its program from outside: command line, exit codes, streams, signals, transports.

A stage says how it can be run in stages/NAME/contract.toml:

    [[case]]
    name = "one"                      # what this way of running it is called
    input = "tokens"                  # a stream of tests/contract/data, or the path of a file: "{tmp}/events.csv"
    args = ["--mode", "one"]          # options it needs; {data}: that folder, {tmp}: a fresh folder
    prepare = [["bl-tokenize", …]]    # programs to run first, in {tmp}
    output = "stream"                 # "stream": --out (default where it writes one); "file", "folder": an option of `makes`; "print": stdout
    makes = ["--save", "{out}"]       # for output = "file" or "folder": the options that name it; of a folder the tables of
                                      # numbers, *.dat, are compared
    same = "digest"                   # how results are compared: "digest" (bl-show --digest), "bytes", or "none"
    codes = {empty = 3}               # exit codes that differ from the contract's, each with a reason in a comment
    skip = {sigterm = "why"}          # checks that have no meaning here, each with its reason

usage: contract.py BIN_DIR PROGRAM [CONTRACT_TOML]
"""
import array
import fcntl
import functools
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
import tomllib
import unittest
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"
TIMEOUT = 120
# Streams of tests/contract/data, and what they hold.
SCHEMAS = {"objects": "objects/1", "particles": "particles/1", "tokens": "tokens/1", "jet_tokens": "tokens/2", "masked": "masked/1", "scores": "scores/1",
           "tagger": "scores/1"}


class Case:
    def __init__(self, table, describe):
        known = {"name", "input", "args", "prepare", "output", "makes", "same", "codes", "skip"}
        if set(table) - known:
            sys.exit(f"contract: unknown keys {sorted(set(table) - known)} in a case")
        self.name = table.get("name", "default")
        self.input = table.get("input")
        self.args = table.get("args", [])
        self.prepare = table.get("prepare", [])
        self.output = table.get("output", "stream" if describe["writes"] else "print")
        self.makes = table.get("makes", [])
        self.same = table.get("same", "bytes" if self.output == "print" else "digest")
        self.codes = table.get("codes", {})
        self.skip = table.get("skip", {})


def each_case(check, wants=lambda case: True):
    """Runs a test for every case that wants it and does not skip `check`."""
    def wrap(test):
        @functools.wraps(test)
        def run(self):
            ran = False
            for case in self.cases:
                if check in case.skip:
                    print(f"{self.program}, {case.name}: no check '{check}': {case.skip[check]}")
                elif wants(case):
                    ran = True
                    with self.subTest(case=case.name):
                        test(self, case)
            if not ran:
                self.skipTest("has no meaning for this program")
        return run
    return wrap


def streaming(case):
    return case.input in SCHEMAS


class Contract(unittest.TestCase):
    bin = program = describe = None
    cases = []

    # --- running ------------------------------------------------------------------------------------------------------

    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="bl")
        cls.top = Path(cls.scratch.name)
        cls.count = 0
        for case in cls.cases:
            case.tmp = cls.top / case.name
            case.tmp.mkdir()
            for words in case.prepare:
                done = cls.start([str(cls.bin / words[0]), *cls.expand(case, words[1:])], cwd=case.tmp)
                if done.returncode != 0:
                    raise AssertionError(f"{case.name}: preparing failed: {' '.join(words)}\n{done.stderr}")

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    @classmethod
    def expand(cls, case, words, out=""):
        return [w.replace("{data}", str(DATA)).replace("{tmp}", str(case.tmp)).replace("{out}", str(out)) for w in words]

    @classmethod
    def start(cls, command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=None):
        return subprocess.run(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, timeout=TIMEOUT, cwd=cwd or cls.top, errors="replace")

    def folder(self):
        Contract.count += 1
        path = self.top / str(Contract.count)
        path.mkdir()
        return path

    def source(self, case):
        if case.input is None:
            return None
        return DATA / f"{case.input}.bl" if case.input in SCHEMAS else Path(self.expand(case, [case.input])[0])

    def command(self, case, source, out, extra=()):
        """source: path, endpoint, "-" or None; out: path or endpoint of what is made."""
        words = [str(self.bin / self.program), *self.expand(case, case.args, out), *extra]
        if source is not None:
            words += ["--in", str(source)]
        if case.output == "stream" and out is not None:
            words += ["--out", str(out)]
        if case.output in ("file", "folder"):
            words += self.expand(case, case.makes, out)
        return words

    def fails(self, done, code, what, says=()):
        """The program ended with `code` and one line that names it and says why."""
        self.assertEqual(done.returncode, code, f"{what}: stderr: {done.stderr}")
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        self.assertTrue(lines, f"{what}: ended with {code} and said nothing")
        self.assertTrue(lines[0].startswith(f"{self.program}: "), f"{what}: does not begin with the program's name: {lines[0]}")
        self.assertIn(f"{self.program}: error: ", done.stderr, what)
        for word in [says] if isinstance(says, str) else says:
            self.assertIn(word, done.stderr, what)

    def nothing_left(self, folder, what):
        self.assertEqual([p.name for p in folder.iterdir()], [], f"{what}: something was left behind")

    def result(self, case, out, printed):
        """What a run made, in a form that can be compared."""
        if case.same == "none":
            return "not compared"
        if case.output == "print":
            return printed
        if case.output == "folder":
            tables = sorted(Path(out).rglob("*.dat"))
            self.assertTrue(tables, f"{case.name}: no table in '{out}'")
            return [(t.name, [line for line in t.read_text().splitlines() if not line.startswith("#")]) for t in tables]
        self.assertTrue(Path(out).is_file(), f"{case.name}: '{out}' was not written")
        if case.same == "bytes":
            return hashlib.sha256(Path(out).read_bytes()).hexdigest()
        shown = self.start([str(self.bin / "bl-show"), "--digest", str(out)])
        self.assertEqual(shown.returncode, 0, shown.stderr)
        return shown.stdout

    def plain_run(self, case, extra=()):
        out = self.folder() / "out"
        done = self.start(self.command(case, self.source(case), out, extra))
        self.assertEqual(done.returncode, 0, f"{case.name}: {done.stderr}")
        return self.result(case, out, done.stdout), done, out

    def variant(self, name, data):
        path = self.folder() / name
        path.write_bytes(data)
        return path

    # --- command line -------------------------------------------------------------------------------------------------

    def test_help(self):
        done = self.start([str(self.bin / self.program), "--help"])
        self.assertEqual(done.returncode, 0)
        self.assertEqual(done.stderr, "")
        self.assertTrue(done.stdout.startswith(f"{self.program} "), done.stdout[:100])
        self.assertIn(f"Usage: {self.program}", done.stdout)
        examples = done.stdout.partition("\nExamples:\n")[2].partition("\n\n")[0].splitlines()
        commands = [line.strip() for line in examples if not line.strip().startswith("#")]
        self.assertTrue(commands, "no examples")
        for command in commands:
            self.assertIn(self.program, command)
        for option in self.describe["option"]:
            self.assertIn(f"--{option['name']}", done.stdout)
            self.assertTrue(option["doc"], f"--{option['name']} is not explained")

    def test_version(self):
        done = self.start([str(self.bin / self.program), "--version"])
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, rf"^{self.program} \(beamline\) \d+\.\d+\.\d+\n$")
        self.assertEqual(done.stdout.split()[-1], self.describe["version"])

    def test_describe(self):
        self.assertEqual(self.describe["name"], self.program)
        known = set(SCHEMAS.values())
        for way in ("reads", "writes"):
            self.assertLessEqual(set(self.describe[way]), known, f"{way} a schema that this test has no data for: add it to tests/contract/data")
        names = [o["name"] for o in self.describe["option"]]
        self.assertEqual(len(names), len(set(names)), "an option stands twice")
        for case in self.cases:
            if case.input in SCHEMAS and not self.describe["reads_files"]:
                self.assertIn(SCHEMAS[case.input], self.describe["reads"])
        if self.describe["reads"] or self.describe["writes"]:
            self.assertTrue(self.cases, f"a stage that streams needs stages/{self.program[3:]}/contract.toml")

    def test_help_to_a_full_disk(self):
        with open("/dev/full", "w") as full:
            self.assertEqual(self.start([str(self.bin / self.program), "--help"], stdout=full).returncode, 4)

    def test_unknown_option(self):
        self.fails(self.start([str(self.bin / self.program), "--no-such-option"]), 2, "unknown option", "--no-such-option")

    def test_misspelt_option(self):
        self.fails(self.start([str(self.bin / self.program), "--threds", "2"]), 2, "misspelt option", "did you mean --threads")

    def test_unknown_key_in_config(self):
        config = self.variant("config.toml", b"no_such_key = 1\n")
        self.fails(self.start([str(self.bin / self.program), "--config", str(config)]), 2, "unknown key", ["no_such_key", str(config)])

    def test_missing_config(self):
        self.assertIn(self.start([str(self.bin / self.program), "--config", str(self.top / "none.toml")]).returncode, (2, 3))

    def test_out_of_range(self):
        for option in self.describe["option"]:
            for bad in ([option["min"] - 1] if "min" in option else []) + ([option["max"] * 2 + 1] if "max" in option else []):
                value = int(bad) if option["type"] in ("int", "uint") else bad
                if option["type"] == "uint" and value < 0:
                    continue
                with self.subTest(option=option["name"], value=value):
                    self.fails(self.start([str(self.bin / self.program), f"--{option['name']}={value}"]), 2, "out of range", option["name"])

    def test_not_a_choice(self):
        for option in self.describe["option"]:
            if option.get("choices"):
                with self.subTest(option=option["name"]):
                    done = self.start([str(self.bin / self.program), f"--{option['name']}=no-such-choice"])
                    self.fails(done, 2, "not a choice", ["no-such-choice", option["name"]])

    def test_not_a_number(self):
        for option in self.describe["option"]:
            if option["type"] in ("int", "uint", "float"):
                with self.subTest(option=option["name"]):
                    self.fails(self.start([str(self.bin / self.program), f"--{option['name']}=many"]), 2, "not a number", option["name"])

    @each_case("config")
    def test_config_is_read(self, case):
        config = self.variant("config.toml", b"threads = 2\n")
        expected = self.plain_run(case)[0]
        self.assertEqual(self.plain_run(case, ["--config", str(config)])[0], expected)
        wrong = self.variant("config.toml", b"threads = 0\n")
        out = self.folder() / "out"
        self.fails(self.start(self.command(case, self.source(case), out, ["--config", str(wrong)])), 2, "a value out of range in a config file", "threads")

    # --- a run --------------------------------------------------------------------------------------------------------

    @each_case("run")
    def test_run_is_silent_and_leaves_only_its_output(self, case):
        _, done, out = self.plain_run(case)
        self.assertEqual(done.stderr, "", "stderr is for errors when nobody watches")
        self.assertEqual([p.name for p in out.parent.iterdir() if p.name.endswith(".part")], [])
        if case.output == "stream":
            shown = self.start([str(self.bin / "bl-show"), str(out)])
            self.assertEqual(shown.returncode, 0, shown.stderr)
            self.assertTrue(any(s in shown.stdout for s in self.describe["writes"]), f"the stream's schema is none of {self.describe['writes']}")
            self.assertIn(self.program, shown.stdout, "its history does not name the program")

    @each_case("metrics")
    def test_metrics(self, case):
        path = self.folder() / "metrics.jsonl"
        self.plain_run(case, ["--metrics", str(path)])
        last = __import__("json").loads(path.read_text().splitlines()[-1])
        self.assertTrue(last["done"])
        self.assertGreaterEqual(last["events"], 0)

    # --- bad input ----------------------------------------------------------------------------------------------------

    def bad_input(self, case, data, code, what, says=()):
        path = self.variant("in.bl", data)
        folder = self.folder()
        self.fails(self.start(self.command(case, path, folder / "out")), code, f"{case.name}: {what}", says)
        self.nothing_left(folder, f"{case.name}: {what}")

    @each_case("missing", lambda c: c.input)
    def test_missing_input(self, case):
        folder = self.folder()
        self.fails(self.start(self.command(case, self.top / "no-such-file.bl", folder / "out")), case.codes.get("missing", 3), "missing file", "no-such-file.bl")
        self.nothing_left(folder, "missing file")

    @each_case("empty", lambda c: c.input)
    def test_empty_input(self, case):
        self.bad_input(case, b"", case.codes.get("empty", 6), "empty file")

    @each_case("empty_pipe", streaming)
    def test_empty_pipe(self, case):
        folder = self.folder()
        self.fails(self.start(self.command(case, "-", folder / "out")), case.codes.get("empty_pipe", 6), "empty pipe")
        self.nothing_left(folder, "empty pipe")

    @each_case("truncated", streaming)
    def test_truncated_input(self, case):
        data = self.source(case).read_bytes()
        for size in (40, 100, len(data) // 3 + 1, len(data) // 2, len(data) - 128, len(data) - 1):
            self.bad_input(case, data[:size], case.codes.get("truncated", 6), f"cut to {size} of {len(data)} bytes")

    @each_case("flipped", streaming)
    def test_flipped_bit(self, case):
        data = self.source(case).read_bytes()
        for position in (8, 24, 80, len(data) // 4, len(data) // 2, len(data) - 120, len(data) - 60):
            damaged = bytearray(data)
            damaged[position] ^= 4
            self.bad_input(case, bytes(damaged), case.codes.get("flipped", 3), f"a bit flipped in byte {position}")

    @each_case("wrong", streaming)
    def test_wrong_schema(self, case):
        self.bad_input(case, (DATA / "unknown.bl").read_bytes(), 3, "an unknown schema", "weather/1")
        if self.describe["reads_files"]:
            return
        for name, schema in SCHEMAS.items():
            if schema not in self.describe["reads"]:
                self.bad_input(case, (DATA / f"{name}.bl").read_bytes(), 3, f"a stream of {schema}", schema)

    @each_case("newer", streaming)
    def test_newer_schema(self, case):
        self.bad_input(case, (DATA / f"{case.input}.newer.bl").read_bytes(), 3, "a newer schema", ["newer", SCHEMAS[case.input][:-1] + "99"])

    # --- output -------------------------------------------------------------------------------------------------------

    @each_case("full", lambda c: c.output in ("stream", "print"))
    def test_full_disk(self, case):
        with open("/dev/full", "wb") as full:
            if case.output == "stream":
                self.fails(self.start(self.command(case, self.source(case), "/dev/full")), 4, "--out on a full disk")
            done = self.start(self.command(case, self.source(case), None), stdout=full)
            self.fails(done, 4, "standard output on a full disk")

    @each_case("folder", lambda c: c.output in ("stream", "file", "folder"))
    def test_output_in_a_missing_folder(self, case):
        out = self.top / "no-such-folder" / "out"
        self.fails(self.start(self.command(case, self.source(case), out)), 4, "missing folder", "no-such-folder")

    @each_case("exists", lambda c: c.output in ("stream", "file"))
    def test_output_that_exists(self, case):
        out = self.folder() / "out"
        out.write_text("precious")
        self.fails(self.start(self.command(case, self.source(case), out)), 4, "existing output", ["--force", "out"])
        self.assertEqual(out.read_text(), "precious")
        self.assertEqual([p.name for p in out.parent.iterdir()], ["out"])
        done = self.start(self.command(case, self.source(case), out, ["--force"]))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.result(case, out, done.stdout)

    @each_case("exists", lambda c: c.output == "folder")
    def test_folder_that_exists(self, case):
        expected, _, out = self.plain_run(case)
        again = self.start(self.command(case, self.source(case), out))
        self.fails(again, 4, "existing output", ["--force", "out"])
        self.assertEqual(self.result(case, out, ""), expected)
        done = self.start(self.command(case, self.source(case), out, ["--force"]))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.result(case, out, ""), expected)
        self.assertEqual([p.name for p in out.parent.iterdir()], ["out"])

    @each_case("reader_gone", lambda c: c.output == "stream")
    def test_reader_gone(self, case):
        end, ours = os.pipe()
        os.close(end)
        try:
            done = self.start(self.command(case, self.source(case), None), stdout=ours)
        finally:
            os.close(ours)
        self.fails(done, 5, "reader gone")

    # --- signals ------------------------------------------------------------------------------------------------------

    @each_case("sigterm", streaming)
    def test_sigterm(self, case):
        folder = self.folder()
        data = self.source(case).read_bytes()
        read_end, write_end = os.pipe()
        process = subprocess.Popen(self.command(case, "-", folder / "out"), stdin=read_end, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.top)
        try:
            os.write(write_end, data[: len(data) // 2])
            unread = array.array("i", [1])
            until = time.monotonic() + 30  # it has started once it has taken what there is
            while unread[0] > 0 and time.monotonic() < until and process.poll() is None:
                time.sleep(0.01)
                fcntl.ioctl(read_end, termios.FIONREAD, unread)
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=TIMEOUT)
        finally:
            os.close(write_end)
            os.close(read_end)
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()
        self.assertEqual(process.returncode, case.codes.get("sigterm", 143), errors)
        self.nothing_left(folder, "SIGTERM")

    # --- same result --------------------------------------------------------------------------------------------------

    @each_case("threads")
    def test_threads(self, case):
        expected = self.plain_run(case, ["--threads", "1"])[0]
        self.assertEqual(self.plain_run(case, ["--threads", "3"])[0], expected)

    @each_case("twice")
    def test_twice(self, case):
        self.assertEqual(self.plain_run(case)[0], self.plain_run(case)[0])

    @each_case("pipe", streaming)
    def test_pipe(self, case):
        expected = self.plain_run(case)[0]
        out = self.folder() / "out"
        with subprocess.Popen(["cat", str(self.source(case))], stdout=subprocess.PIPE) as cat:
            if case.output == "stream":
                with open(out, "wb") as target, subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=target) as sink:
                    done = self.start(self.command(case, "-", None), stdin=cat.stdout, stdout=sink.stdin)
                    sink.stdin.close()
            else:
                done = self.start(self.command(case, "-", out), stdin=cat.stdout)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "")
        self.assertEqual(self.result(case, out, done.stdout), expected)

    def over_sockets(self, case, endpoint, workers):
        """feeder -> the stage, `workers` times -> sink; endpoint(name) makes an address."""
        folder = self.folder()
        out = folder / "out"
        head = str(self.bin / "bl-head")
        source = endpoint(folder, "in")
        commands = [[head, "--n", "1000000000", "--in", str(self.source(case)), "--out", f"{source}?peers={workers}&timeout=20"]]
        ends = []
        for w in range(workers):
            if case.output == "stream":
                ends.append(endpoint(folder, f"out{w}"))
                commands.append(self.command(case, f"{source}?timeout=20", f"{ends[-1]}?timeout=20"))
            else:
                commands.append(self.command(case, f"{source}?timeout=20", out))
        if case.output == "stream":
            commands.append([head, "--n", "1000000000", "--in", ",".join(f"{e}?timeout=20" for e in ends), "--out", str(out)])
        processes = [subprocess.Popen(c, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.top) for c in commands]
        printed = ""
        try:
            for command, process in zip(commands, processes):
                text, errors = process.communicate(timeout=TIMEOUT)
                self.assertEqual((process.returncode, errors), (0, ""), " ".join(command))
                printed = text or printed
        finally:
            for process in processes:
                process.kill()
                process.wait()
                process.stdout.close()
                process.stderr.close()
        return self.result(case, out, printed)

    @staticmethod
    def ipc(folder, name):
        return f"ipc://{folder}/{name}"

    @staticmethod
    def tcp(_, __):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            return f"tcp://127.0.0.1:{s.getsockname()[1]}"

    @each_case("ipc", streaming)
    def test_ipc(self, case):
        self.assertEqual(self.over_sockets(case, self.ipc, 1), self.plain_run(case)[0])

    @each_case("tcp", streaming)
    def test_tcp(self, case):
        self.assertEqual(self.over_sockets(case, self.tcp, 1), self.plain_run(case)[0])

    @each_case("workers", lambda c: streaming(c) and c.output == "stream")
    def test_three_workers(self, case):
        if not self.describe["parallel"]:
            self.skipTest("not declared parallel")
        self.assertEqual(self.over_sockets(case, self.ipc, 3), self.plain_run(case)[0])


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder, program = Path(sys.argv[1]).resolve(), sys.argv[2]
    contract = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    if not shutil.which(str(folder / program)):
        sys.exit(f"contract: there is no program {folder / program}: build it")
    text = subprocess.run([str(folder / program), "--describe"], capture_output=True, text=True, timeout=TIMEOUT, check=True).stdout
    Contract.bin, Contract.program, Contract.describe = folder, program, tomllib.loads(text)
    if contract and contract.exists():
        Contract.cases = [Case(table, Contract.describe) for table in tomllib.loads(contract.read_text()).get("case", [])]
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(Contract)
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=1).run(suite)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
