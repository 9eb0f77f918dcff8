#!/usr/bin/env python3
"""The documentation works: every ```sh block and every ```python block of README.md and docs/*.md is run.

The blocks of one file run one after the other in one folder, with the programs on PATH and the repository's samples,
pipelines and python folders beside them; they may build on each other's files. A block must end with exit code 0 and,
like `bash -eu -o pipefail`, stops at the first failing command. There is no mark that keeps a block from being run; the
only lines that are left out are those in LEFT_OUT.

usage: docs.py SOURCE_DIR BIN_DIR
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Lines of ```sh blocks that are not run here, and why.
LEFT_OUT = [
    (r"^make -f Makefile\.workflow (demo|omnijet-demo|check|build|deps|bench|slow|asan|tsan|venv|venv-import|clean|lint|format|help)\b", "builds or tests the whole project: what runs this test, or takes longer than it may"),
    (r"^cmake --(preset|build|install)\b", "builds the whole project"),
    (r"^git clone\b", "needs a network"),
    (r"^(cd beamline|sudo apt-get .*)$", "prepares the machine"),
    (r"^bl-simulate\b", "needs Pythia 8, which its own test asks for"),
    (r"^bl-import\b", "needs uproot and pyarrow; test_import.py runs these lines where they are"),
]
LANGUAGES = {"", "sh", "python", "toml", "json", "mermaid", "cpp", "make", "text", "cmake"}
SECONDS = 300


def blocks(text):
    """[(line number, language, content)] of a Markdown text."""
    out, start, language, lines = [], None, "", []
    for number, line in enumerate(text.splitlines(), 1):
        fence = re.match(r"^```\s*(.*)$", line)
        if not fence:
            lines.append(line)
        elif start is None:
            start, language, lines = number, fence.group(1).strip(), []
        else:
            out.append((start, language, "\n".join(lines)))
            start = None
    if start is not None:
        out.append((start, "unclosed", ""))
    return out


def joined(content):
    """Commands with their continuation lines, so that one of them can be left out whole."""
    commands, current = [], ""
    for line in content.splitlines():
        current += line + "\n"
        if not line.endswith("\\"):
            commands.append(current)
            current = ""
    return commands + ([current] if current else [])


def left_out(command):
    return next((why for pattern, why in LEFT_OUT if re.search(pattern, command.strip())), None)


def python_with_numpy():
    for candidate in (sys.executable, "/usr/bin/python3", shutil.which("python3")):
        if candidate and subprocess.run([candidate, "-c", "import numpy, msgpack"], capture_output=True).returncode == 0:
            return candidate
    return None


def run_file(path, source, programs, python, counts):
    faults = []
    name = path.relative_to(source)
    with tempfile.TemporaryDirectory() as tmp:
        for folder in ("samples", "pipelines", "python", "schemas"):
            if (source / folder).exists():
                (Path(tmp) / folder).symlink_to(source / folder)
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(source / "python"), "LC_ALL": "C.UTF-8"}
        for line, language, content in blocks(path.read_text()):
            where = f"{name}:{line}"
            if language not in LANGUAGES:
                faults.append(f"{where}: a block of '{language}': use one of {', '.join(sorted(LANGUAGES - {''}))}, or none")
                continue
            if language == "sh":
                kept = []
                for command in joined(content):
                    why = left_out(command)
                    counts["left out"] += bool(why)
                    if not why:
                        kept.append(command)
                if not any(c.strip() and not c.strip().startswith("#") for c in kept):
                    continue
                command = ["bash", "-eu", "-o", "pipefail", "-c", "".join(kept)]
            elif language == "python":
                if python is None:
                    counts["skipped"] += 1
                    continue
                command = [python, "-c", content, str(source / "tests/contract/data/objects.bl")]  # argv[1]: a stream to read
            else:
                continue
            counts[language] += 1
            try:
                done = subprocess.run(command, cwd=tmp, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
                if done.returncode != 0:
                    tail = "\n    ".join((done.stderr or done.stdout).strip().splitlines()[-8:])
                    faults.append(f"{where}: ended with exit code {done.returncode}\n    {tail}")
            except subprocess.TimeoutExpired:
                faults.append(f"{where}: ran longer than {SECONDS} s")
    return faults


def self_test():
    found = blocks("a\n```sh\necho 1 \\\n  2\n```\n```\nx\n```\n")
    assert [(b[0], b[1]) for b in found] == [(2, "sh"), (6, "")], found
    assert len(joined(found[0][2])) == 1
    assert left_out("make -f Makefile.workflow demo   # all of it") and not left_out("bl-show events.bl")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    self_test()
    source, programs = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    python = python_with_numpy()
    counts = {"sh": 0, "python": 0, "left out": 0, "skipped": 0}
    faults = []
    for path in [source / "README.md", *sorted((source / "docs").glob("*.md"))]:
        if path.exists():
            faults += run_file(path, source, programs, python, counts)
    for fault in faults:
        print(fault)
    if counts["skipped"]:
        print(f"docs: {counts['skipped']} python blocks skipped: no Python with numpy and msgpack (apt-get install python3-numpy python3-msgpack)")
    print(f"docs: {counts['sh']} sh blocks and {counts['python']} python blocks run, {counts['left out']} commands left out, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
