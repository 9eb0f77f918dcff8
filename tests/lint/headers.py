#!/usr/bin/env python3
"""Every header compiles alone.

A header that its own source file includes before anything else (x.cpp starts with x.hpp) is shown to stand alone by the
build itself; the others are compiled here, two at a time, without generating code.

usage: headers.py SOURCE_DIR COMPILER [FLAG…]
"""
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FIRST_INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)


def shown_by_build(header, folder_name):
    source = header.with_suffix(".cpp")
    if not source.exists():
        return False
    first = FIRST_INCLUDE.search(source.read_text())
    return bool(first) and first.group(1) == f"{folder_name}/{header.name}"


def compiles(command, text):
    with tempfile.NamedTemporaryFile("w", suffix=".cpp") as unit:
        unit.write(text)
        unit.flush()
        done = subprocess.run([*command, unit.name], capture_output=True, text=True)
        return done.returncode == 0, done.stderr


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    source, compiler, flags = Path(sys.argv[1]), sys.argv[2], [f for f in sys.argv[3:] if f]
    command = [compiler, "-std=c++20", "-fsyntax-only", f"-I{source}/common", f"-I{source}/stages", *flags]
    if compiles(command, "std::string lonely;\n")[0]:
        sys.exit("headers: the compiler accepts an undeclared name: this test would find nothing")

    alone, by_build = [], 0
    for top in ("common", "stages"):
        for header in sorted((source / top).rglob("*.hpp")):
            if shown_by_build(header, str(header.parent.relative_to(source / top))):
                by_build += 1
            else:
                alone.append((str(header.relative_to(source / top)), header.read_text()))

    guarded = [name for name, text in alone if "#pragma once" not in text]
    broken = [f"{name}: has no #pragma once" for name in guarded]
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda item: (item[0], compiles(command, f'#include "{item[0]}"\n')), alone)
        for name, (good, message) in results:
            if not good:
                first = next((line for line in message.splitlines() if "error" in line), message.strip())
                broken.append(f"{name}: does not compile alone: {first}")
    for line in broken:
        print(line)
    print(f"headers: {len(alone)} compiled alone, {by_build} shown by their source file, {len(broken)} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
