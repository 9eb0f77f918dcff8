#!/usr/bin/env python3
"""Case folders: a command and what it must print.

    stages/NAME/cases/CASE/cmd      a shell script; programs are on PATH, $DATA is tests/contract/data
                          in        its standard input (default: none)
                          expout    what it must print to standard output (default: nothing)
                          experr    … and to standard error (default: nothing)
                          exit      its exit code (default: 0)

It runs in an empty folder, whose path, and that of $DATA, stand as {tmp} and {data} in what is compared.
--populate writes what came out in place of what was expected: read `git diff` before you commit that.

usage: cases.py BIN_DIR CASES_DIR… [--populate]
"""
import difflib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

DATA = Path(__file__).resolve().parent / "contract/data"


def run(case, programs):
    with tempfile.TemporaryDirectory() as tmp:
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "DATA": str(DATA), "LC_ALL": "C.UTF-8"}
        given = case / "in"
        with open(given if given.exists() else os.devnull, "rb") as stdin:
            done = subprocess.run(["bash", "-u", "-o", "pipefail", str(case / "cmd")], cwd=tmp, stdin=stdin, capture_output=True, env=environment, timeout=120)
        clean = lambda data: data.decode(errors="replace").replace(tmp, "{tmp}").replace(str(DATA), "{data}")  # noqa: E731
        return {"expout": clean(done.stdout), "experr": clean(done.stderr), "exit": f"{done.returncode}\n"}


def main():
    arguments = [a for a in sys.argv[1:] if a != "--populate"]
    populate = "--populate" in sys.argv
    if len(arguments) < 2:
        sys.exit(__doc__)
    programs = Path(arguments[0]).resolve()
    cases = sorted(p.parent for folder in arguments[1:] for p in Path(folder).glob("*/cmd"))
    if not cases:
        sys.exit(f"cases: no folder with a file 'cmd' in {' '.join(arguments[1:])}")
    default = {"expout": "", "experr": "", "exit": "0\n"}
    failed = 0
    for case in cases:
        got = run(case, programs)
        wrong = []
        for name, text in got.items():
            path = case / name
            expected = path.read_text() if path.exists() else default[name]
            if text == expected:
                continue
            if populate:
                if text == default[name]:
                    path.unlink(missing_ok=True)
                else:
                    path.write_text(text)
            wrong += difflib.unified_diff(expected.splitlines(), text.splitlines(), f"{case.name}/{name}", "what came", lineterm="")
        if wrong:
            failed += 1
            print("\n".join(wrong))
    print(f"cases: {len(cases)} run, {failed} {'written anew' if populate else 'failed'}")
    return 1 if failed and not populate else 0


if __name__ == "__main__":
    sys.exit(main())
