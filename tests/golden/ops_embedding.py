"""Writes ops_embedding.golden: sums of looked-up rows: token, position and type.

    python3 tests/golden/ops_embedding.py tests/golden/ops_embedding.golden        # needs torch 2.15; tests do not
"""
import sys

import torch.nn.functional as F

import golden


def main():
    cases = golden.Cases(43)
    tokens, positions = cases.normal(9, 10), cases.normal(6, 10)
    ids, ranks = cases.integers(9, 14), cases.integers(6, 14)
    cases.add("tokens", lambda t, ids: F.embedding(ids, t), [tokens], ids=ids)
    cases.add("sum", lambda t, p, ids, ranks: F.embedding(ids, t) + F.embedding(ranks, p), [tokens, positions], ids=ids, ranks=ranks)
    cases.write(sys.argv[1])


if __name__ == "__main__":
    main()
