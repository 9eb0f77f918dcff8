"""Writes ops_rows.golden: rows, segments and columns as PyTorch's indexing gives them.

    python3 tests/golden/ops_rows.py tests/golden/ops_rows.golden        # needs torch 2.15; tests do not
"""
import sys

import torch

import golden

OFFSETS = torch.tensor([0, 4, 4, 5, 12])  # the second segment is empty


def per_segment(function):
    def apply(*inputs, offsets):
        rows = []
        for first, last in zip(offsets[:-1], offsets[1:]):
            parts = [x[first:last] for x in inputs]
            rows.append(function(*parts) if last > first else torch.zeros_like(inputs[0][0]))
        return torch.stack(rows)
    return apply


def softmax_sum(x, logits):
    heads = logits.shape[1]
    weights = torch.softmax(logits, 0)[:, :, None]
    return (weights * x.view(len(x), heads, -1)).sum(0).flatten()


def main():
    cases = golden.Cases(31)
    x = cases.normal(12, 9)
    cases.add("gather", lambda x, ids: x[ids], [x], ids=torch.tensor([3, 3, 0, 11, 7]))
    cases.add("scatter_add", lambda x, ids: torch.zeros(6, 9, dtype=x.dtype).index_add(0, ids, x), [x], ids=cases.integers(5, 12))
    cases.add("mean", per_segment(lambda x: x.mean(0)), [x], offsets=OFFSETS)
    cases.add("sum", per_segment(lambda x: x.sum(0)), [x], offsets=OFFSETS)
    cases.add("max", per_segment(lambda x: x.max(0).values), [x], offsets=OFFSETS)
    cases.add("softmax_sum", per_segment(softmax_sum), [x, cases.normal(12, 3, scale=2.0)], offsets=OFFSETS)
    cases.add("broadcast", lambda x, offsets: x.repeat_interleave(offsets.diff(), 0), [cases.normal(4, 9)], offsets=OFFSETS)
    cases.add("concat_columns", lambda a, b: torch.cat([a, b, a], 1), [cases.normal(5, 3), cases.normal(5, 8)])
    cases.add("concat_rows", lambda a, b: torch.cat([a, b, a], 0), [cases.normal(5, 3), cases.normal(2, 3)])
    cases.add("slice_columns", lambda x: x[:, 2:7], [x])
    cases.write(sys.argv[1])


if __name__ == "__main__":
    main()
