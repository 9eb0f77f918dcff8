#!/usr/bin/env python3
"""Every numbered sentence of common/transport/PROTOCOL.md has a test whose name starts with its number, and no test
names a sentence that is not there.

usage: sentences.py SOURCE_DIR
"""
import re
import sys
from pathlib import Path


def check(protocol, tests):
    sentences = [int(n) for n in re.findall(r"^(\d+)\. ", protocol, re.M)]
    problems = []
    if sentences != list(range(1, len(sentences) + 1)):
        problems.append("the sentences are not numbered 1, 2, 3 …")
    tested = {int(n) for n in re.findall(r"^\s*TEST(?:_[FP])?\(\w+, S(\d+)_", tests, re.M)}
    problems += [f"sentence {n} has no test S{n:02}_…" for n in sentences if n not in tested]
    problems += [f"a test names sentence {n}, which does not exist" for n in sorted(tested - set(sentences))]
    return problems


def main():
    assert check("1. a\n2. b\n", "TEST(P, S01_a) {}\n") == ["sentence 2 has no test S02_…"]  # the check itself can fail
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    tests = "\n".join(p.read_text() for p in sorted((root / "tests/transport").glob("*_test.cpp")))
    problems = check((root / "common/transport/PROTOCOL.md").read_text(), tests)
    for problem in problems:
        print(f"common/transport/PROTOCOL.md: {problem}")
    print(f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
