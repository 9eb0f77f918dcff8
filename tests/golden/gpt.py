"""Writes gpt.golden: what PyTorch computes for a small autoregressive model with given weights and sequences.

    python3 tests/golden/gpt.py tests/golden/gpt.golden        # needs torch 2.15; tests do not

Arrays: weights/<name>, gradients/<name> (of the mean loss over all rows), input/offsets, input/tokens (without start
and stop), output/log_probability (of each row's target), output/losses (ten AdamW steps without clipping).
"""
import sys

import torch
import torch.nn.functional as F

import golden

VOCABULARY, POSITIONS, DIM, HEADS, LAYERS, FEED_FORWARD = 47, 40, 32, 4, 2, 4
DECAY, RATE = 0.05, 0.01


def make_weights(generator):
    shapes = {"gpt/token": (VOCABULARY, DIM), "gpt/position": (POSITIONS, DIM)}
    for layer in range(LAYERS):
        at = f"gpt/{layer}/"
        shapes |= {at + "norm1/weight": (DIM,), at + "norm1/bias": (DIM,), at + "qkv/weight": (3 * DIM, DIM), at + "qkv/bias": (3 * DIM,),
                   at + "out/weight": (DIM, DIM), at + "out/bias": (DIM,), at + "norm2/weight": (DIM,), at + "norm2/bias": (DIM,),
                   at + "up/weight": (FEED_FORWARD * DIM, DIM), at + "up/bias": (FEED_FORWARD * DIM,),
                   at + "down/weight": (DIM, FEED_FORWARD * DIM), at + "down/bias": (DIM,)}
    shapes |= {"gpt/norm/weight": (DIM,), "gpt/norm/bias": (DIM,), "head/weight": (VOCABULARY, DIM), "head/bias": (VOCABULARY,)}
    weights = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator) * 0.25
        if "norm" in name and name.endswith("weight"):
            value += 1
        weights[name] = value.float().double().requires_grad_()
    return weights


def log_probabilities(w, sequences):
    """Sequence by sequence, with nothing packed: the plainest form of the model."""
    result = []
    for tokens in sequences:
        ids = torch.cat([torch.tensor([VOCABULARY - 2]), tokens])
        targets = torch.cat([tokens, torch.tensor([VOCABULARY - 1])])
        n = len(ids)
        x = w["gpt/token"][ids] + w["gpt/position"][:n]
        for layer in range(LAYERS):
            p = {k.removeprefix(f"gpt/{layer}/"): v for k, v in w.items()}
            h = F.layer_norm(x, (DIM,), p["norm1/weight"], p["norm1/bias"])
            q, k, v = F.linear(h, p["qkv/weight"], p["qkv/bias"]).view(n, 3, HEADS, DIM // HEADS).permute(1, 2, 0, 3)
            h = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(0, 1).reshape(n, DIM)
            x = x + F.linear(h, p["out/weight"], p["out/bias"])
            h = F.layer_norm(x, (DIM,), p["norm2/weight"], p["norm2/bias"])
            h = F.gelu(F.linear(h, p["up/weight"], p["up/bias"]), approximate="tanh")
            x = x + F.linear(h, p["down/weight"], p["down/bias"])
        h = F.layer_norm(x, (DIM,), w["gpt/norm/weight"], w["gpt/norm/bias"])
        result.append(F.log_softmax(F.linear(h, w["head/weight"], w["head/bias"]), -1).gather(1, targets[:, None])[:, 0])
    return torch.cat(result)


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(21)
    weights = make_weights(generator)
    arrays = {"weights/" + k: v.detach().clone() for k, v in weights.items()}
    sequences = [torch.randint(VOCABULARY - 2, (n,), generator=generator) for n in (12, 0, 33, 1, 39, 7, 20, 16)]
    arrays["input/offsets"] = torch.cumsum(torch.tensor([0] + [len(s) for s in sequences]), 0)
    arrays["input/tokens"] = torch.cat(sequences)

    logp = log_probabilities(weights, sequences)
    (-logp.mean()).backward()
    arrays["output/log_probability"] = logp
    for name, value in weights.items():
        arrays["gradients/" + name] = value.grad.clone()

    # matrices decay; norms, biases and embeddings do not
    decays = [v for k, v in weights.items() if k.endswith("weight") and "norm" not in k]
    others = [v for k, v in weights.items() if not (k.endswith("weight") and "norm" not in k)]
    groups = [{"params": decays, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95))
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = -log_probabilities(weights, sequences).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    arrays["output/losses"] = torch.tensor(losses)

    golden.write(sys.argv[1], arrays)


if __name__ == "__main__":
    main()
