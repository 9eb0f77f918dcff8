#!/usr/bin/env python3
"""A released schema never changes: schemas/LOCK holds the SHA-256 of each file, and this test fails when they differ.

To change a schema: copy schemas/NAME.V.toml to schemas/NAME.(V+1).toml, raise `version` in it, change the copy, then
    python3 tests/lint/schemas_lock.py --add
which adds the new file to LOCK. Lines that stand in LOCK are never rewritten by this tool.

usage: schemas_lock.py [--add] [SOURCE_DIR]
"""
import hashlib
import re
import sys
import tempfile
from pathlib import Path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_lock(folder):
    lock, path = {}, folder / "LOCK"
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        match = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line)
        if not match:
            sys.exit(f"schemas/LOCK, line {number}: not of the form 'sha256  file': {line!r}")
        if match.group(2) in lock:
            sys.exit(f"schemas/LOCK, line {number}: {match.group(2)} stands twice")
        lock[match.group(2)] = match.group(1)
    return lock


def faults(folder):
    lock = read_lock(folder)
    files = {p.name: p for p in sorted(folder.glob("*.toml"))}
    found = []
    for name, path in files.items():
        match = re.fullmatch(r"([a-z][a-z0-9_]*)\.([1-9][0-9]*)\.toml", name)
        if not match:
            found.append(f"schemas/{name}: a schema is named NAME.VERSION.toml")
            continue
        text = path.read_text()
        for key, value in (("name", f'"{match.group(1)}"'), ("version", match.group(2))):
            if not re.search(rf"^{key} = {re.escape(value)}$", text, re.M):
                found.append(f"schemas/{name}: does not say `{key} = {value}`")
        if name not in lock:
            found.append(f"schemas/{name}: is not in LOCK: add it by `python3 tests/lint/schemas_lock.py --add`")
        elif lock[name] != digest(path):
            copy = f"{match.group(1)}.{int(match.group(2)) + 1}.toml"
            found.append(f"schemas/{name}: was changed after it was locked: restore it and make the change in a copy, schemas/{copy}")
    found += [f"schemas/{name}: is in LOCK but gone: files written with it must stay readable" for name in lock if name not in files]
    return found


def add(folder):
    lock = read_lock(folder)
    for path in sorted(folder.glob("*.toml")):
        if path.name not in lock:
            with open(folder / "LOCK", "a") as out:
                out.write(f"{digest(path)}  {path.name}\n")
            print(f"added {path.name}")


def self_test():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a.1.toml").write_text('name = "a"\nversion = 1\n')
        assert any("not in LOCK" in f for f in faults(folder)), "an unlocked file is not noticed"
        stdout, sys.stdout = sys.stdout, sys.stderr
        try:
            add(folder)
        finally:
            sys.stdout = stdout
        assert not faults(folder), faults(folder)
        (folder / "a.1.toml").write_text('name = "a"\nversion = 1\n\n')
        assert any("a.2.toml" in f for f in faults(folder)), "a changed file is not noticed"
        (folder / "a.1.toml").unlink()
        assert any("gone" in f for f in faults(folder)), "a removed file is not noticed"


def main():
    arguments = sys.argv[1:]
    wants_add = "--add" in arguments
    rest = [a for a in arguments if a != "--add"]
    folder = Path(rest[0] if rest else Path(__file__).resolve().parents[2]) / "schemas"
    if wants_add:
        add(folder)
    else:
        self_test()
    found = faults(folder)
    for line in found:
        print(line)
    print(f"schemas: {len(list(folder.glob('*.toml')))} files, {len(found)} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
