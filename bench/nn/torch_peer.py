"""The models of bench_worker in PyTorch. Run by compare.py, see bench_worker.cpp for the lines.

    torch_peer.py gpt|encoder packed|padded|longest --data FILE --weights FILE [--threads N] [--precision f32|bf16] [--dim D]

packed: as a skilled user writes it for a CPU: linear layers on packed tokens, scaled dot-product attention on a padded
view, cross-entropy on targets only. padded: everything padded to the longest sequence that the model reads. longest: padded
to the longest of the batch, for batches of equal length. Fused AdamW throughout.
"""
import argparse

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import peer

ENCODER_VOCABULARY, ENCODER_LAYERS, ENCODER_LONGEST = 967, 6, 18
GPT_VOCABULARY, GPT_LAYERS, GPT_POSITIONS = 8194, 3, 129
IGNORE = -100


class Block(nn.Module):
    def __init__(self, dim, heads, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
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
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, is_causal=self.causal).transpose(1, 2)
        y = y.reshape(batch * longest, dim).index_select(0, rows) if rows is not None else y.reshape(batch, longest, dim)
        x = x + self.out(y)
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Model(nn.Module):
    def __init__(self, vocabulary, positions, dim, heads, layers, causal):
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, dim), nn.Embedding(positions, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, causal) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, vocabulary)

    def forward(self, tokens, positions, rows, shape, allowed, chosen, targets):
        x = self.token(tokens) + self.position(positions)
        for block in self.blocks:
            x = block(x, rows, shape, allowed)
        x = x.reshape(-1, x.shape[-1])
        if chosen is not None:
            x = x[chosen]
        return F.cross_entropy(self.head(self.norm(x)), targets, ignore_index=IGNORE)

    def load(self, weights):
        renamed = {}
        for name, value in weights.items():
            name = name.split("/", 1)[1] if not name.startswith("head/") else name
            name = "blocks." + name if name[0].isdigit() else name + ".weight" if name in ("token", "position") else name
            renamed[name.replace("/", ".")] = torch.from_numpy(value.copy())
        self.load_state_dict(renamed)


def view_of(lengths, longest):
    """Places of packed rows in the padded matrix."""
    return torch.from_numpy(np.concatenate([e * longest + np.arange(n) for e, n in enumerate(lengths)]))


def spread(values, rows, shape, fill=0):
    flat = torch.full((shape[0] * shape[1],), fill, dtype=values.dtype)
    return flat.index_copy(0, rows, values).view(shape)


def gpt_input(batch, mode):
    lengths = batch.lengths + 1
    longest = GPT_POSITIONS if mode == "padded" else int(lengths.max())
    tokens, targets = [], []
    for start, n in zip(batch.starts, batch.lengths):
        sequence = batch.tokens[start : start + n]
        tokens.append(np.r_[GPT_VOCABULARY - 2, sequence])
        targets.append(np.r_[sequence, GPT_VOCABULARY - 1])
    tokens, targets = torch.from_numpy(np.concatenate(tokens)), torch.from_numpy(np.concatenate(targets))
    positions = torch.from_numpy(np.concatenate([np.arange(n) for n in lengths]))
    rows, shape = view_of(lengths, longest), (len(lengths), longest)
    if mode == "packed":
        return len(tokens), (tokens, positions, rows, shape, None, None, targets)
    padded = (spread(tokens, rows, shape), torch.arange(longest), None, shape, None, None, spread(targets, rows, shape, IGNORE).view(-1))
    return len(tokens), padded


def encoder_input(batch, mode, targets_of):
    lengths, total = batch.lengths, int(batch.lengths.sum())
    longest = ENCODER_LONGEST if mode == "padded" else int(lengths.max())
    rows, shape = view_of(lengths, longest), (len(lengths), longest)
    chosen = torch.arange(total) if targets_of == "all" else torch.from_numpy(batch.starts + batch.hidden)
    tokens = torch.from_numpy(batch.tokens.copy())
    targets = tokens[chosen].clone()
    tokens[chosen] = ENCODER_VOCABULARY - 1
    positions = torch.from_numpy(np.concatenate([np.arange(n) for n in lengths]))
    allowed = torch.from_numpy(np.arange(longest)[None, :] < lengths[:, None])[:, None, None, :]
    if mode == "packed":
        return total, (tokens, positions, rows, shape, allowed, chosen, targets)
    return total, (spread(tokens, rows, shape), torch.arange(longest), None, shape, allowed, rows[chosen], targets)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=["gpt", "encoder"])
    parser.add_argument("mode", choices=["packed", "padded", "longest"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    options = parser.parse_args()
    memory_at_start = peer.peak_memory()
    torch.set_num_threads(options.threads)
    batches = peer.read_data(options.data)
    gpt = options.model == "gpt"
    if gpt:
        model = Model(GPT_VOCABULARY, GPT_POSITIONS, options.dim, 8, GPT_LAYERS, True)
    else:
        model = Model(ENCODER_VOCABULARY, 32, options.dim, 4 if options.dim == 64 else 8, ENCODER_LAYERS, False)
    model.load(peer.read_weights(options.weights))
    # as the engine: matrices decay, embeddings, norms and biases do not
    decays = [p for n, p in model.named_parameters() if p.ndim == 2 and not n.startswith(("token", "position"))]
    others = [p for n, p in model.named_parameters() if p.ndim == 1 or n.startswith(("token", "position"))]
    groups = [{"params": decays, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95 if gpt else 0.999), fused=True)

    def step(batch):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.precision == "bf16"):
            loss = model(*batch)
        loss.backward()
        if not gpt:  # bl-train clips
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    def answer(verb, number, targets_of="one"):
        if verb != "train":
            raise ValueError(f"torch_peer: no verb {verb}")
        tokens, batch = gpt_input(batches[number], options.mode) if gpt else encoder_input(batches[number], options.mode, targets_of)
        loss, times = peer.timed(lambda: step(batch))
        return times | {"tokens": tokens, "loss": loss}

    peer.serve({"engine": f"PyTorch {torch.__version__}"}, answer, memory_at_start)


if __name__ == "__main__":
    main()
