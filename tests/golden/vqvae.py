"""Writes vqvae.golden: what PyTorch computes for two small VQ-VAEs with given weights and jets.

    python3 tests/golden/vqvae.py tests/golden/vqvae.golden        # needs torch 2.15 and numpy; tests do not

Arrays, below plain/ and conditional/: weights/<name>, gradients/<name> (of the whole loss, a mean over the constituents),
input/offsets, input/x; output/latent, output/ids, output/reconstructed, output/reconstruction (mean squared error of the
features), output/quantisation (of the latent numbers).
"""
import sys

import numpy as np
import torch
import torch.nn.functional as F

import golden

CODES, LATENT, DIM, LAYERS, HEADS, INNER = 23, 4, 24, 2, 3, 2
CODEBOOK_WEIGHT, COMMITMENT_WEIGHT, SYNC = 3.0, 0.7, 0.5


def make_weights(generator, conditional):
    shapes = {}
    for half, first, last in (("encoder", 3, LATENT), ("decoder", LATENT, 3)):
        shapes |= {f"{half}/in/weight": (DIM, first), f"{half}/in/bias": (DIM,)}
        for layer in range(LAYERS):
            at = f"{half}/{layer}/"
            if conditional:
                for norm in ("norm1", "norm2", "norm3"):
                    shapes |= {at + norm + "/weight": (DIM,), at + norm + "/bias": (DIM,)}
                shapes |= {at + "qkv/weight": (3 * DIM, DIM), at + "qkv/bias": (3 * DIM,), at + "out/weight": (DIM, DIM), at + "out/bias": (DIM,),
                           at + "up/weight": (INNER * DIM, DIM), at + "up/bias": (INNER * DIM,),
                           at + "down/weight": (DIM, INNER * DIM), at + "down/bias": (DIM,)}
            elif layer > 0:
                shapes |= {at + "weight": (DIM, DIM), at + "bias": (DIM,)}
        shapes |= {f"{half}/out/weight": (last, DIM), f"{half}/out/bias": (last,)}
    shapes["codebook"] = (CODES, LATENT)
    weights = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator) * (1.0 if name == "codebook" else 0.25)
        if "norm" in name and name.endswith("weight"):
            value += 1
        weights[name] = value.float().double().requires_grad_()
    return weights


def half(w, name, x, conditional):
    """One jet, with nothing packed: the plainest form of the model."""
    n = len(x)
    x = F.linear(x, w[name + "/in/weight"], w[name + "/in/bias"])
    if not conditional:
        x = F.relu(x)
    for layer in range(LAYERS):
        p = {k.removeprefix(f"{name}/{layer}/"): v for k, v in w.items()}
        if not conditional:
            if layer > 0:
                x = F.relu(F.linear(x, p["weight"], p["bias"]))
            continue
        h = F.layer_norm(x, (DIM,), p["norm1/weight"], p["norm1/bias"])
        q, k, v = F.linear(h, p["qkv/weight"], p["qkv/bias"]).view(n, 3, HEADS, DIM // HEADS).permute(1, 2, 0, 3)
        h = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).reshape(n, DIM)
        h = F.linear(h, p["out/weight"], p["out/bias"])
        x = x + F.layer_norm(h, (DIM,), p["norm2/weight"], p["norm2/bias"])
        h = F.layer_norm(x, (DIM,), p["norm3/weight"], p["norm3/bias"])
        h = F.silu(F.linear(h, p["up/weight"], p["up/bias"]))
        x = x + F.linear(h, p["down/weight"], p["down/bias"])
    return F.linear(x, w[name + "/out/weight"], w[name + "/out/bias"])


def forward(w, jets, conditional):
    z = torch.cat([half(w, "encoder", x, conditional) for x in jets])
    ids = torch.cdist(z, w["codebook"]).argmin(1)
    e = w["codebook"][ids]
    # straight through, and a share of the gradient to the code (vqtorch)
    passed = z + (e - z).detach() + SYNC * (e - e.detach())
    parts = passed.split([len(x) for x in jets])
    back = torch.cat([half(w, "decoder", p, conditional) for p in parts])
    reconstruction = F.mse_loss(back, torch.cat(jets))
    loss = reconstruction + CODEBOOK_WEIGHT * F.mse_loss(e, z.detach()) + COMMITMENT_WEIGHT * F.mse_loss(z, e.detach())
    return loss, z, ids, back, reconstruction, F.mse_loss(z, e)


def model(generator, jets, conditional, at, arrays):
    weights = make_weights(generator, conditional)
    arrays |= {f"{at}/weights/{k}": v.detach().clone() for k, v in weights.items()}
    loss, z, ids, back, reconstruction, quantisation = forward(weights, jets, conditional)
    loss.backward()
    # no row may be so near to the border of two codes that rounding decides
    nearest = torch.cdist(z, weights["codebook"]).topk(2, largest=False).values
    assert (nearest[:, 1] - nearest[:, 0]).min() > 1e-3, (nearest[:, 1] - nearest[:, 0]).min()
    arrays |= {f"{at}/output/latent": z, f"{at}/output/ids": ids, f"{at}/output/reconstructed": back,
               f"{at}/output/reconstruction": reconstruction, f"{at}/output/quantisation": quantisation}
    arrays |= {f"{at}/gradients/{k}": v.grad.clone() for k, v in weights.items()}


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(31)
    jets = [torch.randn((n, 3), generator=generator).float().double() for n in (7, 1, 12, 30, 5)]
    arrays = {"input/offsets": torch.tensor(np.cumsum([0] + [len(j) for j in jets])), "input/x": torch.cat(jets)}
    for conditional, at in ((False, "plain"), (True, "conditional")):
        model(generator, jets, conditional, at, arrays)
    golden.write(sys.argv[1], arrays)


if __name__ == "__main__":
    main()
