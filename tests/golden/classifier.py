"""Writes classifier.golden: what PyTorch computes for a small classifier of token sequences, with each of its heads.

    python3 tests/golden/classifier.py tests/golden/classifier.golden        # needs torch 2.15; tests do not

Arrays: input/offsets, input/tokens (without start), input/labels; for each head <head>/weights/<name>,
<head>/gradients/<name> (of the summed loss), <head>/logits, <head>/loss (summed).
"""
import sys

import torch
import torch.nn.functional as F

import golden

VOCABULARY, POSITIONS, DIM, HEADS, CLASSES, BLOCKS = 23, 20, 16, 2, 3, 2


def layer(name, out, into):
    return {f"{name}/weight": (out, into), f"{name}/bias": (out,)}


def norm(name):
    return {f"{name}/weight": (DIM,), f"{name}/bias": (DIM,)}


def shapes_of(head):
    shapes = {"gpt/token": (VOCABULARY, DIM), "gpt/position": (POSITIONS, DIM)}
    shapes |= norm("gpt/0/norm1") | layer("gpt/0/qkv", 3 * DIM, DIM) | layer("gpt/0/out", DIM, DIM)
    shapes |= norm("gpt/0/norm2") | layer("gpt/0/up", 2 * DIM, DIM) | layer("gpt/0/down", DIM, 2 * DIM) | norm("gpt/norm")
    if head == "class-attention":
        shapes["tagger/token"] = (1, DIM)
        for k in range(BLOCKS):
            at = f"tagger/{k}/"
            shapes |= norm(at + "norm1") | layer(at + "query", DIM, DIM) | layer(at + "key_value", 2 * DIM, DIM) | layer(at + "out", DIM, DIM)
            shapes |= norm(at + "norm2") | layer(at + "up", 2 * DIM, DIM) | layer(at + "down", DIM, 2 * DIM)
        shapes |= norm("tagger/norm")
    else:
        shapes |= layer("tagger/hidden", DIM, DIM if head == "sum" else 2 * DIM)
    return shapes | layer("tagger/out", CLASSES, DIM)


class Model:
    def __init__(self, head, generator):
        self.head, self.w = head, {}
        for name, shape in shapes_of(head).items():
            value = torch.randn(shape, generator=generator) * 0.25 + (1 if "norm" in name and name.endswith("weight") else 0)
            self.w[name] = value.float().double().requires_grad_()

    def linear(self, name, x):
        return F.linear(x, self.w[name + "/weight"], self.w[name + "/bias"])

    def norm(self, name, x):
        return F.layer_norm(x, (DIM,), self.w[name + "/weight"], self.w[name + "/bias"])

    def attention(self, q, k, v, causal):
        split = lambda x: x.view(len(x), HEADS, DIM // HEADS).transpose(0, 1)  # noqa: E731
        return F.scaled_dot_product_attention(split(q), split(k), split(v), is_causal=causal).transpose(0, 1).reshape(len(q), DIM)

    def states(self, tokens):
        ids = torch.cat([torch.tensor([VOCABULARY - 2]), tokens])
        x = self.w["gpt/token"][ids] + self.w["gpt/position"][:len(ids)]
        q, k, v = self.linear("gpt/0/qkv", self.norm("gpt/0/norm1", x)).split(DIM, -1)
        x = x + self.linear("gpt/0/out", self.attention(q, k, v, True))
        x = x + self.linear("gpt/0/down", F.gelu(self.linear("gpt/0/up", self.norm("gpt/0/norm2", x)), approximate="tanh"))
        return self.norm("gpt/norm", x)

    def logits(self, tokens):
        h = self.states(tokens)
        if self.head == "sum":
            x = F.relu(self.linear("tagger/hidden", h)).sum(0)
        elif self.head == "mean":
            x = F.gelu(self.linear("tagger/hidden", torch.cat([h.mean(0), h[-1]])), approximate="tanh")
        else:
            c = self.w["tagger/token"]
            for k in range(BLOCKS):
                at = f"tagger/{k}/"
                key, value = self.linear(at + "key_value", h).split(DIM, -1)
                c = c + self.linear(at + "out", self.attention(self.linear(at + "query", self.norm(at + "norm1", c)), key, value, False))
                c = c + self.linear(at + "down", F.gelu(self.linear(at + "up", self.norm(at + "norm2", c)), approximate="tanh"))
            x = self.norm("tagger/norm", c)[0]
        return self.linear("tagger/out", x)


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(31)
    sequences = [torch.randint(VOCABULARY - 2, (n,), generator=generator) for n in (6, 0, 19, 1, 12, 3)]
    labels = torch.tensor([0, 2, 1, 1, 0, 2])
    arrays = {"input/offsets": torch.cumsum(torch.tensor([0] + [len(s) for s in sequences]), 0), "input/tokens": torch.cat(sequences), "input/labels": labels}
    for head in ("class-attention", "sum", "mean"):
        model = Model(head, generator)
        logits = torch.stack([model.logits(s) for s in sequences])
        loss = F.cross_entropy(logits, labels, reduction="sum")
        loss.backward()
        arrays |= {f"{head}/logits": logits, f"{head}/loss": loss.reshape(1)}
        for name, value in model.w.items():
            arrays |= {f"{head}/weights/{name}": value, f"{head}/gradients/{name}": value.grad}
    golden.write(sys.argv[1], arrays)


if __name__ == "__main__":
    main()
