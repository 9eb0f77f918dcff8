"""Writes ops_attention.golden: self- and cross-attention, sequence by sequence, with nothing packed.

    python3 tests/golden/ops_attention.py tests/golden/ops_attention.golden        # needs torch 2.15; tests do not
"""
import sys

import torch
import torch.nn.functional as F

import golden

HEADS = 2


def attend(q, k, v, visible, bias):
    """(n, dim), (m, dim), (m, dim), (n, m), (n, m, heads) -> (n, dim); a query that sees nothing gives zeros."""
    n, dim = q.shape
    heads = [x.reshape(len(x), HEADS, dim // HEADS).transpose(0, 1) for x in (q, k, v)]
    some = visible.any(1)
    out = torch.zeros(n, dim, dtype=q.dtype)
    if some.any():
        mask = bias.permute(2, 0, 1).masked_fill(~visible, -torch.inf)[:, some]
        found = F.scaled_dot_product_attention(heads[0][:, some], heads[1], heads[2], attn_mask=mask)
        out = out.index_put((some.nonzero()[:, 0],), found.transpose(0, 1).reshape(-1, dim))
    return out


def packed(q, kv, bias=None, *, offsets, key_offsets, keys=None, pairs=None, causal=False):
    rows, pair = [], 0
    for s in range(len(offsets) - 1):
        a, b, c, d = offsets[s], offsets[s + 1], key_offsets[s], key_offsets[s + 1]
        n, m = int(b - a), int(d - c)
        visible = torch.ones(n, m, dtype=torch.bool)
        if causal:
            visible = visible.tril()
        if keys is not None:
            visible = visible & (keys[c:d] > 0)
        if pairs is not None:
            visible = visible & (pairs[pair:pair + n * m].view(n, m) > 0)
        b_of = torch.zeros(n, m, HEADS, dtype=q.dtype) if bias is None else bias[pair:pair + n * m].view(n, m, HEADS)
        rows.append(attend(q[a:b], *kv[c:d].chunk(2, 1), visible, b_of))
        pair += n * m
    return torch.cat(rows)


def self_attention(causal=False):
    def apply(qkv, bias=None, *, offsets, keys=None, pairs=None):
        dim = qkv.shape[1] // 3
        return packed(qkv[:, :dim], qkv[:, dim:], bias, offsets=offsets, key_offsets=offsets, keys=keys, pairs=pairs, causal=causal)
    return apply


def flags(cases, n, part):
    return (torch.rand(n, generator=cases.generator) < part).long()


def main():
    cases = golden.Cases(46)
    offsets, key_offsets = torch.tensor([0, 5, 5, 17, 20]), torch.tensor([0, 3, 7, 16, 16])
    pairs, cross_pairs = 25 + 144 + 9, 15 + 12 * 9
    qkv, bias = cases.normal(20, 3 * 16), cases.normal(pairs, HEADS)
    cases.add("full", self_attention(), [qkv], offsets=offsets)
    cases.add("full_bias", self_attention(), [qkv, bias], offsets=offsets)
    cases.add("causal", self_attention(True), [qkv], offsets=offsets)
    cases.add("causal_bias", self_attention(True), [qkv, bias], offsets=offsets)
    keys = flags(cases, 20, 0.6)
    keys[17:] = 0  # the last sequence sees nothing
    cases.add("keys", self_attention(), [qkv, bias], offsets=offsets, keys=keys)
    cases.add("keys_pairs", self_attention(), [qkv, bias], offsets=offsets, keys=keys, pairs=flags(cases, pairs, 0.6))
    cases.add("causal_keys", self_attention(True), [qkv], offsets=offsets, keys=keys)
    q, kv = cases.normal(20, 24), cases.normal(16, 48)
    cases.add("cross", packed, [q, kv], offsets=offsets, key_offsets=key_offsets)
    cases.add("cross_bias_pairs", packed, [q, kv, cases.normal(cross_pairs, HEADS)], offsets=offsets, key_offsets=key_offsets,
              pairs=flags(cases, cross_pairs, 0.5))
    cases.add("causal_long", self_attention(True), [cases.normal(100, 3 * 8)], offsets=torch.tensor([0, 16, 100]))
    cases.write(sys.argv[1])


if __name__ == "__main__":
    main()
