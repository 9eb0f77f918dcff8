#!/usr/bin/env python3
"""All C++ is as .clang-format says. Exit code 77 (skipped) where clang-format 14 or newer is missing.

usage: format.py [SOURCE_DIR]
"""
import re
import shutil
import subprocess
import sys
from pathlib import Path


def main():
    source = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[2])
    tool = shutil.which("clang-format")
    if not tool:
        print("format: skipped: clang-format is not installed (apt-get install clang-format)")
        return 77
    version = re.search(r"version (\d+)", subprocess.run([tool, "--version"], capture_output=True, text=True).stdout)
    if not version or int(version.group(1)) != 14:
        print("format: skipped: other releases of clang-format than 14, Debian 12's, break lines differently")
        return 77
    files = [str(p) for top in ("common", "stages", "tests", "bench") for s in ("*.cpp", "*.hpp", "*.cu") for p in sorted((source / top).rglob(s))]
    done = subprocess.run([tool, "--dry-run", "-Werror", *files], capture_output=True, text=True, cwd=source)
    wrong = sorted({line.split(":")[0] for line in done.stderr.splitlines() if "clang-format-violations" in line})
    for name in wrong:
        print(f"{Path(name).relative_to(source)}: not formatted: run `make -f Makefile.workflow format`")
    print(f"format: {len(files)} files, {len(wrong)} to format")
    return 1 if wrong or done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
