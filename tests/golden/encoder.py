"""Writes encoder.golden: what PyTorch computes for a small encoder with given weights, inputs and hidden tokens.

    python3 tests/golden/encoder.py tests/golden/encoder.golden        # needs torch 2.15 and numpy; tests do not

Arrays: weights/<name>, gradients/<name> (of the mean loss over the hidden tokens), input/offsets, tokens, positions,
types, mask; output/log_probability (of each hidden token), output/loss, output/losses (ten AdamW steps).
"""
import sys

import numpy as np
import torch
import torch.nn.functional as F

import golden

VOCABULARY, MASK, POSITIONS, TYPES = 61, 60, 20, 5
DIM, HEADS, LAYERS, FEED_FORWARD = 24, 3, 2, 4
DECAY, RATE, CLIP = 0.05, 0.01, 1.0


def make_weights(generator):
    shapes = {"encoder/token": (VOCABULARY, DIM), "encoder/position": (POSITIONS, DIM), "encoder/type": (TYPES + 1, DIM)}
    for layer in range(LAYERS):
        at = f"encoder/{layer}/"
        shapes |= {at + "norm1/weight": (DIM,), at + "norm1/bias": (DIM,), at + "qkv/weight": (3 * DIM, DIM), at + "qkv/bias": (3 * DIM,),
                   at + "out/weight": (DIM, DIM), at + "out/bias": (DIM,), at + "norm2/weight": (DIM,), at + "norm2/bias": (DIM,),
                   at + "up/weight": (FEED_FORWARD * DIM, DIM), at + "up/bias": (FEED_FORWARD * DIM,),
                   at + "down/weight": (DIM, FEED_FORWARD * DIM), at + "down/bias": (DIM,)}
    shapes |= {"encoder/norm/weight": (DIM,), "encoder/norm/bias": (DIM,), "head/weight": (VOCABULARY, DIM), "head/bias": (VOCABULARY,)}
    weights = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator) * 0.25
        if "norm" in name and name.endswith("weight"):
            value += 1
        weights[name] = value.float().double().requires_grad_()
    return weights


def log_probabilities(w, events):
    """Event by event, with nothing packed: the plainest form of the model."""
    result = []
    for tokens, positions, types, mask in events:
        ids = torch.where(mask, torch.tensor(MASK), tokens)
        kinds = torch.where(mask, torch.tensor(TYPES), types)
        x = w["encoder/token"][ids] + w["encoder/position"][positions] + w["encoder/type"][kinds]
        n = len(tokens)
        for layer in range(LAYERS):
            p = {k.removeprefix(f"encoder/{layer}/"): v for k, v in w.items()}
            h = F.layer_norm(x, (DIM,), p["norm1/weight"], p["norm1/bias"])
            q, k, v = F.linear(h, p["qkv/weight"], p["qkv/bias"]).view(n, 3, HEADS, DIM // HEADS).permute(1, 2, 0, 3)
            h = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).reshape(n, DIM)
            x = x + F.linear(h, p["out/weight"], p["out/bias"])
            h = F.layer_norm(x, (DIM,), p["norm2/weight"], p["norm2/bias"])
            h = F.gelu(F.linear(h, p["up/weight"], p["up/bias"]), approximate="tanh")
            x = x + F.linear(h, p["down/weight"], p["down/bias"])
        h = F.layer_norm(x, (DIM,), w["encoder/norm/weight"], w["encoder/norm/bias"])
        logits = F.linear(h[mask], w["head/weight"], w["head/bias"])
        result.append(F.log_softmax(logits, -1).gather(1, tokens[mask][:, None])[:, 0])
    return torch.cat(result)


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(20)
    weights = make_weights(generator)
    arrays = {"weights/" + k: v.detach().clone() for k, v in weights.items()}
    events = []
    for length in (7, 1, 12, 18, 5, 9):
        mask = torch.rand(length, generator=generator) < 0.3
        mask[torch.randint(length, (1,), generator=generator)] = True
        events.append((torch.randint(MASK, (length,), generator=generator), torch.arange(length),
                       torch.randint(TYPES, (length,), generator=generator), mask))
    arrays["input/offsets"] = torch.tensor(np.cumsum([0] + [len(e[0]) for e in events]))
    for i, name in enumerate(("tokens", "positions", "types", "mask")):
        arrays["input/" + name] = torch.cat([e[i] for e in events])

    logp = log_probabilities(weights, events)
    (-logp.mean()).backward()
    arrays["output/log_probability"] = logp
    arrays["output/loss"] = -logp.mean()
    for name, value in weights.items():
        arrays["gradients/" + name] = value.grad.clone()

    # matrices decay; norms, biases and embeddings do not
    decays = [v for k, v in weights.items() if k.endswith("weight") and "norm" not in k]
    others = [v for k, v in weights.items() if not (k.endswith("weight") and "norm" not in k)]
    optimizer = torch.optim.AdamW([{"params": decays, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}], lr=RATE)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = -log_probabilities(weights, events).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(weights.values()), CLIP)
        optimizer.step()
        losses.append(loss.item())
    arrays["output/losses"] = torch.tensor(losses)

    golden.write(sys.argv[1], arrays)


if __name__ == "__main__":
    main()
