#!/usr/bin/env python3
"""What must hold of every file in the tree, and of every stage's folder.

- no mark of unfinished work, no path of one machine, no tab in C++, no trailing blanks, no file over 3 MiB outside samples/
- every folder of stages/ holds main.cpp and CMakeLists.txt with add_stage(bl-<folder> …), and its program names itself
  (or bl_<folder>.py, for a stage in Python); a
  program in Python has a launcher bl-<folder>.in, which CMakeLists.txt configures, and requirements.txt
- the Python of tests/lint uses the standard library only
- the commands that the README names exist in Makefile.workflow

usage: tree.py [SOURCE_DIR]
"""
import ast
import re
import subprocess
import sys
from pathlib import Path

MARKS = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK", "not yet imple" + "mented")) + r")\b")
MACHINE = re.compile(r"(?<![\w.\-$}/])/(home|root|work|Users|farm)/[A-Za-z0-9_.]")
TEXT = {".cpp", ".hpp", ".cu", ".h", ".py", ".toml", ".md", ".txt", ".cmake", ".json", ".sh", ".workflow", ".yml", ""}


def tracked(source):
    done = subprocess.run(["git", "-C", str(source), "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True)
    if done.returncode == 0:
        return [source / name for name in done.stdout.split("\0") if name and (source / name).is_file()]
    # a source archive without git: everything but build folders
    return [p for p in source.rglob("*") if p.is_file() and not any(part.startswith((".git", "build", ".venv")) for part in p.relative_to(source).parts)]


def faults_of_text(name, text, suffix):
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        mark = MARKS.search(line)
        if mark:
            found.append(f"{name}:{number}: '{mark.group(0)}': finish it, or leave it out and say so in the change's note")
        path = MACHINE.search(line)
        if path:
            found.append(f"{name}:{number}: '{path.group(0)}…' is a path of one machine")
        if suffix in {".cpp", ".hpp", ".cu"}:
            if "\t" in line:
                found.append(f"{name}:{number}: a tab")
            if line != line.rstrip():
                found.append(f"{name}:{number}: blanks at the end of the line")
    return found


def faults_of_stages(source):
    found = []
    for folder in sorted(p for p in (source / "stages").iterdir() if p.is_dir() and any(p.iterdir())):
        name = folder.name
        lists, main, script = folder / "CMakeLists.txt", folder / "main.cpp", folder / f"bl_{name}.py"
        if script.exists():  # a stage in Python, for a library that exists only there
            if f"bl-{name}" not in (lists.read_text() if lists.exists() else ""):
                found.append(f"stages/{name}: CMakeLists.txt does not put bl-{name} beside the other programs")
            continue
        if not lists.exists() or not re.search(rf"add_stage\(\s*bl-{re.escape(name)}\b", lists.read_text()):
            found.append(f"stages/{name}: CMakeLists.txt does not call add_stage(bl-{name} …)")
        if not main.exists():
            found.append(f"stages/{name}: has no main.cpp")
        elif f'"bl-{name}"' not in main.read_text():
            found.append(f"stages/{name}/main.cpp: the program does not name itself \"bl-{name}\"")
        elif ".example(" not in main.read_text():
            found.append(f"stages/{name}/main.cpp: its help has no example")
    return found


def faults_of_lint_imports(source):
    found = []
    for path in sorted((source / "tests/lint").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) else []
            found += [f"tests/lint/{path.name}: imports {n}, which is not of the standard library"
                      for n in names if n and n.split(".")[0] not in sys.stdlib_module_names]
    return found


def faults_of_commands(source):
    readme, makefile = source / "README.md", source / "Makefile.workflow"
    if not readme.exists():
        return ["README.md: missing"]
    targets = set(re.findall(r"^([a-z-]+):", makefile.read_text(), re.M))
    named = set(re.findall(r"make -f Makefile\.workflow ([a-z-]+)", readme.read_text()))
    return [f"README.md: names the target '{t}', which Makefile.workflow does not have" for t in sorted(named - targets)]


def self_test():
    bad = {"a mark": "// " + "TO" + "DO: later", "a home": 'open("/home' + '/me/x")', "a tab": "\tint x;", "a blank": "int x; "}
    for what, text in bad.items():
        assert faults_of_text("x.cpp", text, ".cpp"), f"{what} is not noticed"
    assert not faults_of_text("x.cpp", 'open("/tmp/x");  // see https://example.org/work/x', ".cpp")


def main():
    source = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[2])
    self_test()
    found, files = [], 0
    for path in tracked(source):
        name, suffix = str(path.relative_to(source)), path.suffix
        if path.stat().st_size > 3 << 20 and not name.startswith("samples/"):
            found.append(f"{name}: {path.stat().st_size >> 20} MiB: large files belong nowhere but in samples/")
        if suffix not in TEXT:
            continue
        files += 1
        try:
            found += faults_of_text(name, path.read_text(), suffix)
        except UnicodeDecodeError:
            pass  # binary, e.g. a fixture without a suffix
    found += faults_of_stages(source) + faults_of_lint_imports(source) + faults_of_commands(source)
    for line in found:
        print(line)
    print(f"tree: {files} files, {len(found)} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
