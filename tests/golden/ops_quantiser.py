"""Writes ops_quantiser.golden: the vector quantiser with detach() where the papers have a stopped gradient.

    python3 tests/golden/ops_quantiser.py tests/golden/ops_quantiser.golden        # needs torch 2.15; tests do not

Each case has also <case>/loss and <case>/ids. The scalar that is differentiated is Σ cotangent · value + loss.
Arrays of the EMA: ema/start, ema/z0 … z2 (batches), ema/codebook (after three updates).
"""
import sys

import torch

import golden

COMMITMENT, CODEBOOK, SYNC, DECAY, EPSILON = 0.3, 0.7, 0.5, 0.9, 1e-5


def nearest(z, codes):
    return (z[:, None] - codes[None]).square().sum(-1).argmin(1)


def straight_through(z, e):
    return z + (e - z).detach()


def synchronised(z, e):
    return straight_through(z, e) + SYNC * (e - e.detach())


def rotation(z, e):
    """z turned and scaled into e by a constant matrix."""
    rows = []
    for zi, ei in zip(z, e):
        zd, ed = zi.detach(), ei.detach()
        zn, en = zd / zd.norm(), ed / ed.norm()
        r = (zn + en) / (zn + en).norm()
        matrix = torch.eye(len(zd), dtype=zd.dtype) - 2 * torch.outer(r, r) + 2 * torch.outer(en, zn)
        rows.append(ed.norm() / zd.norm() * (matrix @ zi))
    return torch.stack(rows)


def add(cases, name, estimator, commitment, codebook, z, codes):
    z, codes = (t.float().double().requires_grad_() for t in (z, codes))
    ids = nearest(z, codes)
    e = codes[ids]
    value = estimator(z, e)
    loss = commitment * (z - e.detach()).square().sum() + codebook * (z.detach() - e).square().sum()
    cotangent = cases.normal(*value.shape).float().double()
    ((cotangent * value).sum() + loss).backward()
    arrays = {"input0": z, "input1": codes, "value": value, "cotangent": cotangent, "loss": loss, "ids": ids, "gradient0": z.grad,
              "gradient1": torch.zeros_like(codes) if codes.grad is None else codes.grad}
    cases.arrays |= {f"{name}/{key}": array for key, array in arrays.items()}


def main():
    cases = golden.Cases(34)
    z, codes = cases.normal(40, 4), cases.normal(12, 4)
    add(cases, "straight_through", straight_through, 0, 0, z, codes)
    add(cases, "losses", straight_through, COMMITMENT, CODEBOOK, z, codes)
    add(cases, "sync", synchronised, COMMITMENT, CODEBOOK, z, codes)
    add(cases, "rotation", rotation, COMMITMENT, CODEBOOK, z, codes)
    add(cases, "wide", straight_through, COMMITMENT, CODEBOOK, cases.normal(30, 16), cases.normal(70, 16))

    codes = cases.normal(10, 4).float().double()
    counts, sums = torch.ones(10, dtype=torch.double), codes.clone()
    cases.arrays["ema/start"] = codes
    for step in range(3):
        z = cases.normal(50, 4).float().double()
        cases.arrays[f"ema/z{step}"] = z
        ids = nearest(z, codes)
        one_hot = torch.nn.functional.one_hot(ids, 10).double()
        counts = DECAY * counts + (1 - DECAY) * one_hot.sum(0)
        sums = DECAY * sums + (1 - DECAY) * one_hot.T @ z
        smoothed = (counts + EPSILON) / (counts.sum() + 10 * EPSILON) * counts.sum()
        codes = sums / smoothed[:, None]
    cases.arrays["ema/codebook"] = codes
    cases.write(sys.argv[1])


if __name__ == "__main__":
    main()
