"""The encoder of bench_nn in PyTorch, as a skilled user writes it for a CPU: linear layers on packed tokens, scaled
dot-product attention on a padded view, cross-entropy on hidden tokens only, fused AdamW; and padded throughout.

    build/bench/bin/bench_nn --json engine.json
    python3 bench/nn/torch_encoder.py engine.json      # needs torch and numpy

One thread; tokens per second of processor time, the median of repetitions, as bench_nn. Prints the ratios.
"""
import json
import statistics
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

VOCABULARY, LAYERS = 967, 6


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x, rows, shape, allowed):
        dim = x.shape[-1]
        batch, longest = shape
        qkv = self.qkv(self.norm1(x))
        if rows is not None:  # packed: attention sees a padded view
            qkv = qkv.new_zeros(batch * longest, 3 * dim).index_copy(0, rows, qkv)
        q, k, v = qkv.view(batch, longest, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2).reshape(batch * longest, dim)
        y = y.index_select(0, rows) if rows is not None else y.view(batch, longest, dim)
        x = x + self.out(y)
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Encoder(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.token, self.position = nn.Embedding(VOCABULARY, dim), nn.Embedding(32, dim)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(LAYERS))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, VOCABULARY)

    def forward(self, tokens, positions, rows, shape, allowed, hidden, targets):
        x = self.token(tokens) + self.position(positions)
        for block in self.blocks:
            x = block(x, rows, shape, allowed)
        return F.cross_entropy(self.head(self.norm(x.reshape(-1, x.shape[-1])[hidden])), targets)


def measure(dim, heads, everything, packed, events):
    rng = np.random.default_rng(1)
    lengths = rng.integers(7, 19, events)
    longest, total = int(lengths.max()), int(lengths.sum())
    rows = torch.from_numpy(np.concatenate([e * longest + np.arange(n) for e, n in enumerate(lengths)]))
    tokens = torch.from_numpy(rng.integers(0, VOCABULARY - 1, total))
    positions = torch.from_numpy(np.concatenate([np.arange(n) for n in lengths]))
    starts = np.cumsum(lengths) - lengths
    chosen = torch.arange(total) if everything else torch.from_numpy(starts + rng.integers(0, lengths))
    targets = tokens[chosen].clone()
    tokens[chosen] = VOCABULARY - 1
    allowed = torch.from_numpy(np.arange(longest)[None, :] < lengths[:, None])[:, None, None, :]
    if packed:
        batch = (tokens, positions, rows, (events, longest), allowed, chosen, targets)
    else:
        def pad(values):
            return torch.zeros(events * longest, dtype=values.dtype).index_copy(0, rows, values).view(events, longest)
        batch = (pad(tokens), pad(positions), None, (events, longest), allowed, rows[chosen], targets)
    model = Encoder(dim, heads)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    times = []
    while sum(times) < 2 or len(times) < 4:
        start = time.thread_time()
        optimizer.zero_grad()
        model(*batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        times.append(time.thread_time() - start)
    return total / statistics.median(times[1:])


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ours = [json.loads(line) for line in open(sys.argv[1])]
    print(f"tokens per second of one core; PyTorch {torch.__version__}\n{'dim':>5} {'targets':>8} {'beamline':>10} {'packed':>10} {'padded':>10} {'/ packed':>9} {'/ padded':>9}")
    for line in ours:
        dim, everything = line["dim"], line["targets"] == "all"
        events = 128 if dim == 512 else 256
        packed, padded = (measure(dim, 4 if dim == 64 else 8, everything, p, events) for p in (True, False))
        mine = line["tokens_per_second"]
        print(f"{dim:>5} {line['targets']:>8} {mine:>10.0f} {packed:>10.0f} {padded:>10.0f} {mine / packed:>9.2f} {mine / padded:>9.2f}", flush=True)


if __name__ == "__main__":
    main()
