#!/usr/bin/env python3
"""bl-plan, make and bl-run together: what runs again after a change, and what does not. Scripts stand in for stages.

usage: make_test.py BIN_DIR
"""
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

BIN = Path(sys.argv.pop()).resolve() if len(sys.argv) > 1 else Path("build/bin").resolve()

# A stage that joins its inputs, its options and a word of its own, and notes in runs.log that it ran.
STAGE = """#!/bin/bash
if [ "$1" = --describe ]; then cat <<'END'
name = "bl-copy"
version = "1"
reads = ["objects/1"]
writes = ["objects/1"]
[[option]]
name = "tag"
type = "string"
[[option]]
name = "with"
type = "string"
role = "input-file"
[[option]]
name = "drop"
type = "bool"
[[option]]
name = "code"
type = "int"
[[option]]
name = "threads"
type = "int"
common = true
END
exit 0; fi
tag= in=- out=- with= drop= code=0
for a; do case $a in
  --tag=*) tag=${a#*=};; --in=*) in=${a#*=};; --out=*) out=${a#*=};; --with=*) with=${a#*=};; --drop) drop=1;; --code=*) code=${a#*=};;
esac; done
echo "$tag" >> runs.log
text=$(if [ "$in" = - ]; then cat; else cat ${in//,/ }; fi; [ -z "$with" ] || cat "$with"; [ -n "$drop" ] || echo "$tag")
if [ "$out" = - ]; then echo "$text"; else echo "$text" > "$out"; fi
exit $code
"""

PIPELINE = """
[stage.a]
run = "bl-copy"
in = "source.txt"
out = "runs/a.txt"
tag = "a"
[stage.b]
run = "bl-copy"
in = "runs/a.txt"
tag = "b"
[stage.c]
run = "bl-copy"
out = "runs/c.txt"
tag = "c"
[stage.d]
run = "bl-copy"
in = "source.txt"
with = "runs/c.txt"
out = "runs/d.txt"
tag = "d"
[stage.e]
run = "bl-copy"
in = "source.txt"
out = "runs/e.txt"
tag = "e"
[edge.bc]
from = "b"
to = "c"
via = "pipe"
"""

MAKEFILE = """SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
RUN ?=
include build/plan/p.mk
all: $(plan.targets)
"""


class Incremental(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.top = Path(self.scratch.name)
        (self.top / "programs").mkdir()
        self.program = self.top / "programs/bl-copy"
        self.program.write_text(STAGE)
        self.program.chmod(0o755)
        (self.top / "Makefile").write_text(MAKEFILE)
        (self.top / "source.txt").write_text("one\n")
        self.pipeline = PIPELINE

    def tearDown(self):
        self.scratch.cleanup()

    def run_it(self, code=0, jobs=1):
        """Plans and makes; returns the tags of the stages that ran."""
        log = self.top / "runs.log"
        log.unlink(missing_ok=True)
        (self.top / "p.toml").write_text(self.pipeline)
        environment = {**os.environ, "PATH": f"{self.top}/programs:{BIN}:{os.environ['PATH']}"}
        environment.pop("MAKEFLAGS", None)
        planned = subprocess.run([BIN / "bl-plan", "p.toml", "--make", "build/plan/p.mk"], cwd=self.top, env=environment, capture_output=True, text=True)
        self.assertEqual(planned.returncode, 0, planned.stderr)
        made = subprocess.run(["make", f"-j{jobs}", "--warn-undefined-variables", "all"], cwd=self.top, env=environment, capture_output=True, text=True)
        self.output = made.stdout + made.stderr
        self.assertEqual(made.returncode, 2 if code else 0, self.output)
        if code:
            self.assertIn(f"Error {code}", self.output)
        return sorted(log.read_text().split()) if log.exists() else []

    def change(self, old, new):
        self.assertIn(old, self.pipeline)
        self.pipeline = self.pipeline.replace(old, new)

    def text(self, name):
        return (self.top / "runs" / name).read_text().split()

    def test_first_run_runs_all_and_second_runs_nothing(self):
        self.assertEqual(self.run_it(), list("abcde"))
        self.assertEqual(self.text("d.txt"), ["one", "one", "a", "b", "c", "d"])
        self.assertEqual(self.run_it(), [])
        self.assertIn("Nothing to be done for 'all'", self.output)

    def test_parallel_make_gives_the_same(self):
        self.assertEqual(self.run_it(jobs=4), list("abcde"))
        self.assertEqual(self.text("d.txt"), ["one", "one", "a", "b", "c", "d"])

    def test_a_changed_option_reruns_only_what_depends_on_it(self):
        self.run_it()
        self.change('tag = "c"', 'tag = "C"')
        self.assertEqual(self.run_it(), ["C", "b", "d"])  # b streams into c
        self.assertEqual(self.text("d.txt"), ["one", "one", "a", "b", "C", "d"])
        self.change('tag = "e"', 'tag = "E"')
        self.assertEqual(self.run_it(), ["E"])
        self.assertEqual(self.run_it(), [])

    def test_an_option_that_does_not_decide_the_result_reruns_nothing(self):
        self.run_it()
        self.change('tag = "e"', 'tag = "e"\nthreads = 2')
        self.assertEqual(self.run_it(), [])

    def test_time_stamps_rerun_nothing(self):
        self.run_it()
        later = time.time() + 3600
        for path in [self.top / "source.txt", self.top / "p.toml", self.program, self.top / "runs/a.txt"]:
            os.utime(path, (later, later))
        self.assertEqual(self.run_it(), [])

    def test_changed_content_reruns_even_under_an_old_time_stamp(self):
        self.run_it()
        old = (self.top / "source.txt").stat()
        (self.top / "source.txt").write_text("two\n")
        os.utime(self.top / "source.txt", ns=(old.st_atime_ns, old.st_mtime_ns))
        self.assertEqual(self.run_it(), list("abcde"))

    def test_a_changed_program_reruns(self):
        self.run_it()
        self.program.write_text(STAGE + "\n")
        self.assertEqual(self.run_it(), list("abcde"))

    def test_an_equal_result_stops_the_cascade(self):
        self.change('tag = "a"', 'tag = "a"\ndrop = true')
        self.run_it()
        self.change('tag = "a"', 'tag = "other"')  # dropped from the output, which stays the same
        self.assertEqual(self.run_it(), ["other"])

    def test_a_removed_output_is_made_again(self):
        self.run_it()
        (self.top / "runs/c.txt").unlink()
        self.assertEqual(self.run_it(), ["b", "c"])  # d: its input is what it was

    def test_a_failure_names_its_root_cause_and_is_tried_again(self):
        self.change('tag = "b"', 'tag = "b"\ncode = 3')
        self.assertNotIn("d", self.run_it(code=3))
        self.assertIn("root cause: stage 'b' (bl-copy 1) ended with exit code 3 (bad input)", self.output)
        self.change("code = 3", "code = 0")
        self.run_it()
        self.assertEqual(self.text("d.txt"), ["one", "one", "a", "b", "c", "d"])
        self.assertEqual(self.run_it(), [])

    def test_bl_run_runs_a_whole_pipeline(self):
        (self.top / "p.toml").write_text(self.pipeline)
        environment = {**os.environ, "PATH": f"{self.top}/programs:{BIN}:{os.environ['PATH']}"}
        command = [BIN / "bl-run", "p.toml"]
        first = subprocess.run(command, cwd=self.top, env=environment, capture_output=True, text=True)
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertEqual(self.text("d.txt"), ["one", "one", "a", "b", "c", "d"])
        second = subprocess.run(command, cwd=self.top, env=environment, capture_output=True, text=True)
        self.assertEqual(second.stdout, "p/a: unchanged\np/b: unchanged\np/d: unchanged\np/e: unchanged\n")

    def test_sigterm_ends_bl_run_with_143_and_leaves_no_process(self):
        slow = self.top / "programs/bl-slow"
        slow.write_text(STAGE.replace('name = "bl-copy"', 'name = "bl-slow"').replace("echo \"$tag\" >> runs.log", "echo $$ > pid; exec sleep 300"))
        slow.chmod(0o755)
        (self.top / "p.toml").write_text('[stage.s]\nrun = "bl-slow"\nin = "source.txt"\nout = "runs/s.txt"\n')
        environment = {**os.environ, "PATH": f"{self.top}/programs:{BIN}:{os.environ['PATH']}"}
        with subprocess.Popen([BIN / "bl-run", "p.toml"], cwd=self.top, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            for _ in range(200):
                if (self.top / "pid").exists() and (self.top / "pid").read_text().strip():
                    break
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
            self.assertEqual(process.returncode, 143)
        pid = int((self.top / "pid").read_text())
        with self.assertRaises(ProcessLookupError):
            os.kill(pid, 0)


if __name__ == "__main__":
    unittest.main()
