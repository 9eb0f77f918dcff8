"""Writes optimizer.golden: steps of PyTorch's optimisers, and of Lion from its paper, in double precision; rates of
PyTorch's schedulers.

    python3 tests/golden/optimizer.py tests/golden/optimizer.golden        # needs torch 2.15; tests do not

Layout: golden.py. A matrix "head/weight" (3, 5) that decays and a vector "body/bias" (7), which does not and whose
learning rate has the factor FACTOR. Arrays: start/head/weight, start/body/bias, gradients (STEPS, 22: matrix, vector),
<optimiser>/values (STEPS, 22) after each step at rates RATE / (1 + step), and schedule/<kind> (100).
"""
import sys

import golden
import torch

STEPS, RATE, DECAY, FACTOR = 12, 0.02, 0.3, 0.25


class Lion(torch.optim.Optimizer):
    """Algorithm 2 of Chen et al., arXiv:2302.06675; PyTorch has none."""

    def __init__(self, groups, lr, betas):
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                update = (beta1 * m + (1 - beta1) * p.grad).sign()
                p -= group["lr"] * (update + group["weight_decay"] * p)
                m.mul_(beta2).add_(p.grad, alpha=1 - beta2)


def optimisers():
    yield "adamw", lambda g: torch.optim.AdamW(g, lr=RATE)
    yield "adamw_betas", lambda g: torch.optim.AdamW(g, lr=RATE, betas=(0.8, 0.95))
    yield "lion", lambda g: Lion(g, lr=RATE, betas=(0.9, 0.99))
    yield "sgd", lambda g: torch.optim.SGD(g, lr=RATE)
    yield "momentum", lambda g: torch.optim.SGD(g, lr=RATE, momentum=0.9)
    yield "nesterov", lambda g: torch.optim.SGD(g, lr=RATE, momentum=0.8, nesterov=True)


def rates(make):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=RATE)
    scheduler, out = make(optimizer), []
    for step in range(100):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < 99:  # OneCycleLR refuses to go on
            scheduler.step()
    return torch.tensor(out, dtype=torch.float64)


def main():
    generator = torch.Generator().manual_seed(3)
    normal = lambda *shape: torch.randn(shape, generator=generator).double()  # noqa: E731
    weight, bias, gradients = normal(3, 5), normal(7), normal(STEPS, 22)
    gradients[3, 2] = gradients[4, 20] = 0  # a sign of zero is zero
    gradients[0, 1] = gradients[0, 18] = 0
    arrays = {"start/head/weight": weight, "start/body/bias": bias, "gradients": gradients}
    for name, make in optimisers():
        w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        optimizer = make([{"params": [w], "weight_decay": DECAY}, {"params": [b], "weight_decay": 0.0}])
        values = []
        for step, g in enumerate(gradients):
            w.grad, b.grad = g[:15].view(3, 5).clone(), g[15:].clone()
            for group, factor in zip(optimizer.param_groups, (1, FACTOR)):
                group["lr"] = factor * RATE / (1 + step)
            optimizer.step()
            values.append(torch.cat([w.detach().flatten(), b.detach()]))
        arrays[f"{name}/values"] = torch.stack(values)
    scheduler = torch.optim.lr_scheduler
    arrays["schedule/one_cycle"] = rates(lambda o: scheduler.OneCycleLR(o, RATE, total_steps=100, pct_start=0.3))
    arrays["schedule/cosine"] = rates(lambda o: scheduler.CosineAnnealingLR(o, T_max=99, eta_min=0.1 * RATE))
    arrays["schedule/inverse_sqrt"] = rates(lambda o: scheduler.LambdaLR(o, lambda s: 10**0.5 * min((s + 1) ** -0.5, (s + 1) * 10**-1.5)))
    golden.write(sys.argv[1], arrays)


if __name__ == "__main__":
    main()
