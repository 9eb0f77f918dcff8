#!/usr/bin/env python3
"""Does a model learn as well with bf16 products as with f32? The masked-token encoder on the events of samples/anomaly,
trained in both precisions from several seeds; prints loss curves, their difference, and how large a difference comes by
chance.

    python3 bench/nn/convergence.py --bin build/bin --work /tmp/convergence

Seeds change the starting weights, the order of the events, the masks and which events validate. A run in bf16 is paired
with the f32 run of the same seed, and the spread of the pairs' differences is what bf16 is judged by. A third run, f32 with
another cut of the batches into shards, differs in its last bits and in what dropout drops: that difference is chance. No result depends on the number of threads. Needs only Python 3; 13 minutes of one core.
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import sys


def run(*command):
    subprocess.run([str(word) for word in command], check=True)


def prepare(options):
    """The events of the pipeline anomaly, as tokens with masks."""
    masked = os.path.join(options.work, "masked.bl")
    if os.path.exists(masked):
        return masked
    tool = lambda name: os.path.join(options.bin, name)
    at = lambda name: os.path.join(options.work, name)
    run(tool("bl-preprocess"), "--in", "samples/anomaly/background.bl", "--recipe", "pipelines/recipes/anomaly.toml", "--out", at("events.bl"), "--force")
    run(tool("bl-tokenize"), "--in", at("events.bl"), "--fit", "quantile", "--extra", "met,n_jets,n_bjets,n_leptons,ht", "--phi", "relative", "--pt-bins", 10,
        "--tails", "0.95,0.99,0.999", "--save", at("tokens.h5"), "--force")
    run(tool("bl-tokenize"), "--in", at("events.bl"), "--with", at("tokens.h5"), "--out", at("tokens.bl"), "--force")
    run(tool("bl-mask"), "--in", at("tokens.bl"), "--mode", "one", "--extras", "--out", masked + ".part", "--force")
    os.rename(masked + ".part", masked)
    return masked


def train(options, masked, seed, kind):
    """Steps and their training losses, and the last validation loss."""
    name = f"{options.dim}-{options.layers}-{options.steps}-{kind}-{seed}"
    metrics = os.path.join(options.work, name + ".jsonl")
    if not os.path.exists(metrics):
        extra = ["--precision", "bf16"] if kind == "bf16" else ["--shard", 64] if kind == "f32 again" else []
        run(os.path.join(options.bin, "bl-train"), "--in", masked, "--save", os.path.join(options.work, name + ".h5"), "--force", "--seed", seed, "--dim",
            options.dim, "--layers", options.layers, "--epochs", options.epochs, "--dropout", options.dropout, "--threads", options.threads, "--quiet",
            "--metrics", metrics + ".part", *extra)
        os.rename(metrics + ".part", metrics)
    steps, losses, validation = [], [], []
    with open(metrics) as lines:
        for line in map(json.loads, lines):
            if "validation_loss" in line:
                validation.append(line["validation_loss"])
            elif "loss" in line and "step" in line:
                steps.append(line["step"])
                losses.append(line["loss"])
    return steps, losses, validation


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build/bin", help="where the programs are")
    parser.add_argument("--work", default="runs/convergence", help="where files go; finished runs found there are not repeated")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000, help="at least so many steps")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.seeds < 2 or options.steps < 100:
        sys.exit("convergence: at least 2 seeds and 100 steps are needed, for a spread and for a curve")
    os.makedirs(options.work, exist_ok=True)
    masked = prepare(options)
    kinds = ["f32", "bf16", "f32 again"]
    # Whole epochs: the number of events is not known here, so one short run tells the steps of an epoch.
    probe = os.path.join(options.work, "probe.jsonl")
    run(os.path.join(options.bin, "bl-train"), "--in", masked, "--save", os.path.join(options.work, "probe.h5"), "--force", "--epochs", 1, "--dim", 16,
        "--layers", 1, "--quiet", "--metrics", probe)
    with open(probe) as lines:
        epoch_steps = max(line["step"] for line in map(json.loads, lines) if "step" in line)
    options.epochs = math.ceil(options.steps / epoch_steps)
    results = {kind: [] for kind in kinds}
    for seed in range(1, options.seeds + 1):
        for kind in kinds:
            results[kind].append(train(options, masked, seed, kind))
            print(f"seed {seed} {kind}: validation {results[kind][-1][2][-1]:.4f}", file=sys.stderr, flush=True)

    total = options.epochs * epoch_steps
    print(f"masked-token encoder, dim {options.dim}, {options.layers} layers, dropout {options.dropout}, {total} steps of 256 events, {options.seeds} seeds")
    print("differences are of pairs with the same seed: mean ± standard deviation over the seeds\n")

    def pairs(kind, value):
        return [value(a) - value(b) for a, b in zip(results[kind], results["f32"])]

    def line(label, value):
        mean = statistics.mean(value(r) for r in results["f32"])
        spread = statistics.stdev(value(r) for r in results["f32"])
        text = f"{label:<24} {mean:8.4f} ± {spread:.4f}"
        for kind in kinds[1:]:
            d = pairs(kind, value)
            text += f"   {statistics.mean(d):+9.5f} ± {statistics.stdev(d):.5f}"
        print(text)

    print(f"{'':<24} {'f32':>17}   {'bf16 - f32':>19}   {'f32 again - f32':>19}")
    edges = [round(total * i / 10) for i in range(11)]
    for first, last in zip(edges, edges[1:]):
        line(f"training, step {first:>4}-{last}", lambda r: statistics.mean(x for s, x in zip(r[0], r[1]) if first < s <= last))
    for epoch in sorted({0, options.epochs // 2, options.epochs - 1}):
        line(f"validation, epoch {epoch + 1}", lambda r: r[2][epoch])

    at_end = lambda r: r[2][-1]
    d, again = pairs("bf16", at_end), pairs("f32 again", at_end)
    error = statistics.stdev(d) / math.sqrt(len(d))
    print(f"\nvalidation at the end: bf16 - f32 = {statistics.mean(d):+.5f} ± {error:.5f} (error of the mean over {len(d)} seeds);"
          f" chance alone {statistics.mean(again):+.5f} ± {statistics.stdev(again) / math.sqrt(len(again)):.5f};"
          f" seeds differ by {statistics.stdev(map(at_end, results['f32'])):.5f}")


if __name__ == "__main__":
    main()
