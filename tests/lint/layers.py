#!/usr/bin/env python3
"""Holds every #include of common/ and stages/ to the table in docs/layers.md, and proves that it would notice a breach.

usage: layers.py [SOURCE_DIR]
"""
import re
import sys
from pathlib import Path

# How a third-party header is recognised: first match wins.
THIRD_PARTY = [
    (r"fmt/", "fmt"),
    (r"spdlog/", "spdlog"),
    (r"nlohmann/", "nlohmann"),
    (r"Random123/", "Random123"),
    (r"xxh(ash|3)\.h", "xxhash"),
    (r"toml\+\+/|toml\.hpp", "toml++"),
    (r"msgpack", "msgpack"),
    (r"zmq(_addon)?\.(h|hpp)", "zmq"),
    (r"(hdf5(_hl)?|H5[A-Za-z]*)\.(h|hpp)|highfive/", "hdf5"),
    (r"(unsupported/)?Eigen/", "Eigen"),
    (r"fastjet/", "fastjet"),
    (r"muParser", "muParser"),
    (r"hwy/", "highway"),
    (r"dnnl|oneapi/dnnl", "dnnl"),
    (r"cuda|cublas|curand|cudnn|cub/", "cuda"),
    (r"mpi\.h", "mpi"),
    (r"nccl\.h", "nccl"),
    (r"CLI/", "CLI11"),
    (r"gtest/|gmock/", "gtest"),
    (r"benchmark/", "benchmark"),
    (r"onnx", "onnx"),
    (r"openssl/|sodium", "crypto"),
]
# Headers of C, C++, POSIX and Linux.
SYSTEM = re.compile(r"^(sys|linux|arpa|netinet|net|asm|bits)/|^[a-z0-9_]+$|^(unistd|fcntl|signal|poll|spawn|errno|dlfcn|netdb|dirent|glob|time|"
                    r"string|stdio|stdlib|stdint|math|pthread|sched|termios|limits|assert|fnmatch|ftw|pwd|immintrin|cpuid|getopt|malloc|wordexp)\.h$")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
SUFFIXES = {".hpp", ".cpp", ".cu", ".h", ".hh", ".cc", ".inc"}


def read_table(text):
    """{folder: (allowed folders, allowed libraries)} from the first table whose header starts with 'folder'."""
    table, inside = {}, False
    for line in text.splitlines():
        cells = [c.strip() for c in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            if inside and table:
                break
            continue
        if cells[0] == "folder":
            inside = True
        elif inside and not set(cells[0]) <= set("-: "):
            folders = set(cells[1].replace("–", "").split())
            libraries = {w.strip() for w in cells[2].replace("–", "").split(",") if w.strip()}
            table[cells[0]] = (folders, libraries)
    if not table:
        sys.exit("layers: docs/layers.md holds no table that starts with 'folder'")
    unknown = {f for folders, _ in table.values() for f in folders} - set(table)
    if unknown:
        sys.exit(f"layers: docs/layers.md allows folders that have no row: {', '.join(sorted(unknown))}")
    known = {name for _, name in THIRD_PARTY}
    strange = {l for _, libraries in table.values() for l in libraries} - known
    if strange:
        sys.exit(f"layers: docs/layers.md names libraries that layers.py cannot recognise: {', '.join(sorted(strange))}")
    return table


def library_of(header):
    for pattern, name in THIRD_PARTY:
        if re.match(pattern, header):
            return name
    return None


def judge(path, text, table, stage_names):
    """Breaches of one file, as sentences. `path` is relative to the source folder, e.g. common/wire/frame.hpp."""
    parts = Path(path).parts
    top, folder = parts[0], parts[1]
    row = "stages" if top == "stages" else folder
    if row not in table:
        return [f"{path}: common/{folder} has no row in docs/layers.md: add one"]
    folders, libraries = table[row]
    found = []
    for match in INCLUDE.finditer(text):
        quote, header = match.groups()
        line = text.count("\n", 0, match.start(2)) + 1
        where = f"{path}:{line}"
        first = header.split("/")[0]
        if quote == '"':
            if "/" not in header:
                if not (Path(path).parent.name and top == "stages"):
                    found.append(f'{where}: "{header}" is not written as "folder/file.hpp"')
                continue
            if header.startswith("."):
                found.append(f'{where}: "{header}" climbs out of its folder; write "folder/file.hpp"')
            elif top == "stages" and first == folder:
                pass
            elif first in table and first != "stages":
                if first != folder and first not in folders:
                    found.append(f"{where}: {row} may not include {first} (docs/layers.md allows it: {' '.join(sorted(folders)) or 'nothing'})")
                elif top == "stages" and first not in folders:
                    found.append(f"{where}: stages may not include {first}")
            elif first in stage_names:
                found.append(f"{where}: one stage may not include another ({header}); move what both need to common/")
            else:
                found.append(f'{where}: "{header}" is neither of common/ nor of this stage')
            continue
        library = library_of(header)
        if library is None:
            if first in table or first in stage_names:
                found.append(f'{where}: our own headers are included with quotes: "{header}"')
            elif not SYSTEM.match(header):
                found.append(f"{where}: <{header}> belongs to no library that layers.py knows: add it to THIRD_PARTY and to docs/layers.md")
        elif library not in libraries:
            found.append(f"{where}: {row} may not use {library} (<{header}>; docs/layers.md allows it: {', '.join(sorted(libraries)) or 'nothing'})")
        elif library in ("cuda", "nccl") and not path.endswith("_cuda.cu"):
            found.append(f"{where}: {library} headers belong in *_cuda.cu only")
    return found


def self_test(table):
    """The rules must bite: each of these is a breach, or is not one."""
    stage_names = {"mask", "train"}
    cases = [
        ("common/base/x.hpp", '#include "data/batch.hpp"', True),
        ("common/data/x.hpp", '#include "base/error.hpp"', False),
        ("common/transport/x.cpp", "#include <msgpack.hpp>", True),
        ("common/wire/x.cpp", "#include <zmq.hpp>", True),
        ("common/nn/x.cpp", "#include <hdf5.h>", True),
        ("common/physics/x.cpp", "#include <CLI/CLI.hpp>", True),
        ("common/nn/x.cpp", "#include <cuda_runtime.h>", True),
        ("common/nn/x_cuda.cu", "#include <cuda_runtime.h>", False),
        ("common/base/x.cpp", '#include "../data/batch.hpp"', True),
        ("common/base/x.cpp", "#include <vector>\n#include <sys/stat.h>", False),
        ("common/base/x.cpp", "#include <boost/asio.hpp>", True),
        ("common/base/x.cpp", "#include <base/error.hpp>", True),
        ("stages/mask/main.cpp", '#include "mask/mask.hpp"\n#include "stage/program.hpp"', False),
        ("stages/mask/main.cpp", '#include "train/loop.hpp"', True),
        ("stages/mask/main.cpp", "#include <H5Cpp.h>", True),
    ]
    wrong = [f"{path} with {text!r}: expected {'a breach' if breach else 'none'}"
             for path, text, breach in cases if bool(judge(path, text, table, stage_names)) != breach]
    if wrong:
        sys.exit("layers: the test itself is broken:\n  " + "\n  ".join(wrong))


def main():
    source = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[2])
    table = read_table((source / "docs/layers.md").read_text())
    self_test(table)
    stage_names = {p.name for p in (source / "stages").iterdir() if p.is_dir()}
    clash = stage_names & (set(table) - {"plan"})
    if clash:
        sys.exit(f"layers: a stage has the name of a folder of common/: {', '.join(sorted(clash))}")
    breaches, files = [], 0
    for top in ("common", "stages"):
        for path in sorted((source / top).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                files += 1
                breaches += judge(str(path.relative_to(source)), path.read_text(), table, stage_names)
    if not files:
        sys.exit("layers: no source files found")
    for breach in breaches:
        print(breach)
    print(f"layers: {files} files, {len(breaches)} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
