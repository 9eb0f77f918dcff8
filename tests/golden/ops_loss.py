"""Writes ops_loss.golden: sums of cross-entropies with label smoothing and class weights, and of regression losses.

    python3 tests/golden/ops_loss.py tests/golden/ops_loss.golden        # needs torch 2.15; tests do not
"""
import sys

import torch
import torch.nn.functional as F

import golden

ROWS, WIDTH, CLASSES = 40, 6, 23


def main():
    cases = golden.Cases(45)
    logits, targets = cases.normal(ROWS, CLASSES, scale=2.0), cases.integers(CLASSES, ROWS)
    head = [cases.normal(ROWS, WIDTH), cases.normal(CLASSES, WIDTH), cases.normal(1, CLASSES)]
    weights = torch.rand(CLASSES, generator=cases.generator)
    weights[3] = 0
    for name, smoothing, weight in (("plain", 0.0, None), ("smoothed", 0.1, None), ("weighted", 0.0, weights), ("both", 0.3, weights)):
        constants = {"targets": targets, "smoothing": torch.tensor(smoothing)} | ({} if weight is None else {"weights": weight})

        def loss(z, targets, smoothing, weights=None):
            return F.cross_entropy(z, targets, weights, reduction="sum", label_smoothing=smoothing.item())

        cases.add(name, loss, [logits], **constants)
        cases.add("linear_" + name, lambda x, w, b, **c: loss(F.linear(x, w, b[0]), **c), head, **constants)
    prediction = cases.normal(9, 5, scale=2.0)
    constants = {"target": cases.normal(9, 5), "weights": torch.rand(9, 5, generator=cases.generator)}
    for name, rho in (("squared", F.mse_loss), ("absolute", F.l1_loss), ("huber", lambda p, t, reduction: F.huber_loss(p, t, reduction, 0.75))):
        cases.add(name, lambda p, target, weights: (weights * rho(p, target, reduction="none")).sum(), [prediction], **constants)
        cases.add(name + "_unweighted", lambda p, target: rho(p, target, reduction="sum"), [prediction], target=constants["target"])
    cases.write(sys.argv[1])


if __name__ == "__main__":
    main()
