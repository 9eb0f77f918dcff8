"""Writes metrics_reference.json, the values that test_metrics.cpp and test_classification.cpp compare with.

They are computed by scipy, scikit-learn, energyflow and jetnet 0.2.5. Arrays come from our own counter-based generator
(base/rng.hpp), repeated here in numpy, and so do the draws: jetnet's generators are replaced by one that draws as
draw_rows() of stats/sample.hpp does, so that whole recipes of the package can be compared to rounding. Beside them stand
values with the package's own generator, which agree within errors only.

Made in an environment with: pip install "numpy<2" scipy scikit-learn xxhash energyflow numba tqdm, and
pip install --no-deps jetnet==0.2.5. The tests need none of this, only the file.
"""
import json
import pathlib

import numpy as np
import scipy
import sklearn
import xxhash
from scipy.optimize import curve_fit, nnls
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, wasserstein_distance
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import accuracy_score, confusion_matrix, roc_auc_score, roc_curve

from jetnet_alone import energyflow, gen_metrics


gen_metrics.utils.jet_features = lambda jets: {"mass": np.round(masses(jets), 6)}  # theirs needs coffea


class Rng:
    """bl::Rng: Philox4x32-10 with a key from the hash of seed and purpose."""

    def __init__(self, seed, purpose):
        key = xxhash.xxh3_64_intdigest(np.uint64(seed).tobytes(), xxhash.xxh3_64_intdigest(purpose.encode()))
        self.key = (key & 0xFFFFFFFF, key >> 32)

    def bits(self, event, index):
        event, index = np.broadcast_arrays(np.asarray(event, np.uint64), np.asarray(index, np.uint64))
        low, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
        c = [event & mask, event >> low, index & mask, index >> low]
        k = list(self.key)
        for _ in range(10):
            p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
            c = [(p1 >> low) ^ c[1] ^ np.uint64(k[0]), p1 & mask, (p0 >> low) ^ c[3] ^ np.uint64(k[1]), p0 & mask]
            k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
        return c[0] | c[1] << low

    def uniform(self, event, index):
        return (self.bits(event, index) >> np.uint64(11)).astype(float) * 2.0**-53

    def below(self, n, event, index):
        b = self.bits(event, index)
        high, low = b >> np.uint64(32), b & np.uint64(0xFFFFFFFF)
        n = np.uint64(n)  # below 2^32: the high half of the product in two steps
        return (high * n + (low * n >> np.uint64(32))) >> np.uint64(32)


class Draws:
    """numpy's Generator as far as jetnet uses it: choice() of rows, reference and sample in turn."""

    def __init__(self, rng, task=0):
        self.rng, self.calls = rng, 2 * task

    def choice(self, n, size):
        self.calls += 1
        return self.rng.below(n, self.calls - 1, np.arange(size)).astype(np.int64)


# The arrays; test_metrics.cpp makes the same.
def jets(purpose, n, shift):
    rng = Rng(7, purpose)
    out = np.zeros((n, 24, 3))  # eta, phi, pt
    for j in range(n):
        k = np.arange(5 + int(rng.below(20, j, 0)))
        out[j, k, 2] = rng.uniform(j, 3 * k + 1)
        out[j, k, 0] = rng.uniform(j, 3 * k + 2) - 0.5 + shift
        out[j, k, 1] = rng.uniform(j, 3 * k + 3) - 0.5
    return out


def masses(jets):
    eta, phi, pt = np.moveaxis(jets, 2, 0)
    px, py, pz, e = (pt * np.cos(phi)).sum(1), (pt * np.sin(phi)).sum(1), (pt * np.sinh(eta)).sum(1), (pt * np.cosh(eta)).sum(1)
    return np.sqrt(np.maximum(e**2 - px**2 - py**2 - pz**2, 0))


def features(purpose, n, d, shift):
    rng = Rng(7, purpose)
    row, c = np.arange(n)[:, None], np.arange(d)[None, :]
    g = rng.uniform(row, 3 * c) + rng.uniform(row, 3 * c + 1) + rng.uniform(row, 3 * c + 2)
    return g + 0.5 * np.roll(g, 1, axis=1) + shift * c


out = {"made with": {"numpy": np.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__,
                     "energyflow": energyflow.__version__, "jetnet": "0.2.5"}}
local = np.random.default_rng(5)


# Divergences, by the formulas of the two papers' code.
def kl_alpha(a, b, n, merge=False):
    edges = np.quantile(a, np.linspace(0.001, 0.999, n))
    if merge:  # what we do where equal edges leave the definition without a value
        edges = np.unique(edges)
        if len(edges) < 2:
            return np.nan
    p, q = (np.histogram(x, edges, density=True)[0] + 1e-8 for x in (a, b))
    return float(entropy(p, q))


def open_histograms(a, b, n):
    edges = np.quantile(a, np.linspace(0, 1, n + 1))
    edges[[0, -1]] = -np.inf, np.inf
    return [np.histogram(x, edges)[0] for x in (a, b)]


def number(x):
    return float(x) if np.isfinite(x) else str(float(x))  # JSON has no infinity


cases = {
    "continuous": (np.round(local.gamma(3, 1, 700), 4), np.round(local.gamma(3.3, 1, 500), 4)),
    "far": (np.round(local.normal(0, 1, 300), 4), np.round(local.normal(2.5, 1, 200), 4)),
    "integers": (local.poisson(40, 500).astype(float), local.poisson(43, 400).astype(float)),
    "one and two": (np.array([1.0]), np.array([0.5, 2.0])),
    "two and one": (np.array([0.5, 2.0]), np.array([1.0])),
    "constant": (np.full(20, 3.0), np.full(10, 3.0)),
}
out["divergence"] = {}
for name, (a, b) in cases.items():
    entry = {"reference": a.tolist(), "sample": b.tolist(), "bins": {}}
    for n in (5, 30, 50):
        p, q = open_histograms(a, b, n)
        with np.errstate(all="ignore"):
            entry["bins"][str(n)] = {
                "alpha": number(kl_alpha(a, b, n)),
                "alpha merged": number(kl_alpha(a, b, n, True)),
                "ntp4jets": number(entropy(p / len(a), q / len(b))),
                "js nats": float(np.nan_to_num(jensenshannon(p, q)) ** 2),
                "js bits": float(np.nan_to_num(jensenshannon(p, q, base=2)) ** 2),
            }
    weight = [np.round(local.exponential(1, len(x)) + 0.01, 3) for x in (a, b)]
    entry |= {"reference weight": weight[0].tolist(), "sample weight": weight[1].tolist(),
              "w1": float(wasserstein_distance(a, b)), "w1 weighted": float(wasserstein_distance(a, b, *weight))}
    out["divergence"][name] = entry

# W1 by the package's recipes.
real, gen = jets("real", 300, 0.0), jets("generated", 250, 0.0625)
w1 = {"draws": 200, "batches": 5}


def recipe(f, rng):
    gen_metrics.rng = rng
    mean, std = f(real, gen, num_eval_samples=w1["draws"], num_batches=w1["batches"])
    return {"mean": np.atleast_1d(mean).tolist(), "std": np.atleast_1d(std).tolist()}


efps = [np.round(energyflow.EFPSet(("n==", 4), ("d==", 4), ("p==", 1), measure="hadr", beta=1, normed=None, coords="ptyphim").batch_compute(j[:, :, [2, 0, 1]], 1), 3)
        for j in (real, gen)]
gen_metrics.utils.efps = lambda j, **_: efps[0] if j is real else efps[1]
w1 |= {"p": recipe(gen_metrics.w1p, Draws(Rng(3, "w1"))), "m": recipe(gen_metrics.w1m, Draws(Rng(3, "w1"))),
       "efp": recipe(gen_metrics.w1efp, Draws(Rng(3, "w1"))), "m own draws": recipe(gen_metrics.w1m, np.random.default_rng(1)),
       "masses": [np.round(masses(j), 6).tolist() for j in (real, gen)], "efps": [e.tolist() for e in efps]}
out["w1"] = w1

# Energy mover's distances of single pairs, coverage and matching distance.
flat = lambda jet: jet[jet[:, 2] > 0][:, [2, 0, 1]]  # noqa: E731
out["emd"] = []
for i in range(12):
    a, b = flat(real[i]), flat(gen[2 * i])
    wide_a, wide_b = a.copy(), b.copy()
    wide_a[:, 2] *= 6.0
    wide_b[:, 2] = wide_b[:, 2] * 6.0 + 3.0
    out["emd"].append({"plain": float(energyflow.emd.emd(a, b, R=1.0, norm=False)), "R 0.4": float(energyflow.emd.emd(a, b, R=0.4, norm=False)),
                       "normalised": float(energyflow.emd.emd(a, b, R=1.0, norm=True)),
                       "periodic": float(energyflow.emd.emd(wide_a, wide_b, R=1.0, norm=False, periodic_phi=True))})
gen_metrics.rng = Draws(Rng(3, "cov_mmd"))
coverage = gen_metrics.cov_mmd(real, gen, num_eval_samples=40, num_batches=4, use_tqdm=False)
gen_metrics.rng = np.random.default_rng(1)
own = gen_metrics.cov_mmd(real, gen, num_eval_samples=40, num_batches=40, use_tqdm=False)
out["cov_mmd"] = {"draws": 40, "batches": 4, "coverage": float(coverage[0]), "mmd": float(coverage[1]),
                  "own draws": {"batches": 40, "coverage": float(own[0]), "mmd": float(own[1])}}

# FPD and KPD. The package makes its generator inside with numpy.random.default_rng(seed).
x, y = features("real", 3000, 8, 0.0), features("generated", 2500, 8, 0.01)
# Its fit stops where gradients are below 1e-8, which may be far from the minimum; the same means fitted to the end stand
# beside it.
fits = []


def best_line(x, y):
    """Intercept, slope and the intercept's error of the line with both >= 0."""
    columns = np.stack([np.ones_like(x), x / x.max()], 1)
    params, rest = nnls(columns, np.asarray(y))
    cov = np.linalg.inv(columns.T @ columns) * rest**2 / (len(y) - 2)
    return float(params[0]), float(params[1] / x.max()), float(np.sqrt(cov[0, 0]))


def recording_fit(line, x, y, bounds):
    value, slope, error = best_line(x, y)
    fits.append({"means": [float(v) for v in y], "value": value, "error": error, "slope": slope})
    return curve_fit(line, x, y, bounds=bounds)


gen_metrics.curve_fit = recording_fit
default_rng = np.random.default_rng
small = {"min_samples": 500, "max_samples": 2000, "num_batches": 20, "num_points": 10}
np.random.default_rng = lambda seed: Draws(Rng(3, "fpd"))
fpd = gen_metrics.fpd(x, y, **small)
np.random.default_rng = lambda seed: Draws(Rng(3, "kpd"), (seed - 42) // 1000)  # a generator for each batch
kpd = gen_metrics.kpd(x, y, num_batches=10, batch_size=500)
np.random.default_rng = default_rng
fpd_own = gen_metrics.fpd(x, y, **small)
kpd_own = gen_metrics.kpd(x, y, num_batches=10, batch_size=500)
gaussians = [(f.mean(0), np.cov(f, rowvar=False)) for f in (x, y)]
out["fpd"] = {"value": float(fpd[0]), "error": float(fpd[1]), "fit to the end": fits[0], "own draws": [float(fpd_own[0]), float(fpd_own[1])],
              "frechet": float(gen_metrics._calculate_frechet_distance(*gaussians[0], *gaussians[1]))}
out["kpd"] = {"value": float(kpd[0]), "error": float(kpd[1]), "own draws": [float(kpd_own[0]), float(kpd_own[1])],
              "mmd": float(gen_metrics._mmd_poly_quadratic_unbiased(x, y))}
# With all settings as they come, and 36 features.
big = features("real", 50_000, 36, 0.0), features("generated", 50_000, 36, 0.0005)
np.random.default_rng = lambda seed: Draws(Rng(3, "fpd"))
fpd = gen_metrics.fpd(*big)
np.random.default_rng = lambda seed: Draws(Rng(3, "kpd"), (seed - 42) // 1000)
kpd = gen_metrics.kpd(*big)
np.random.default_rng = default_rng
out["defaults"] = {"fpd": [float(v) for v in fpd], "fit to the end": fits[-1], "kpd": [float(v) for v in kpd]}

lines = []
numbers = (1 / np.linspace(1 / 20_000, 1 / 50_000, 10)).astype("int32")
means = np.array(fits[-1]["means"])
points = [([1.0, 2.0, 3.0, 4.0], y) for y in ([3.0, 3.5, 4.2, 4.4], [0.1, 0.5, 1.2, 1.4], [4.0, 3.0, 2.0, 1.5])]
points += [((1 / numbers).tolist(), (factor * (means - shift)).tolist()) for factor in (1, 0.01, 0.3, 5, 100) for shift in (0, 4e-4, 6e-4)]
points += [((1 / numbers).tolist(), (factor * means[::-1]).tolist()) for factor in (1, 0.01, 1000)]
for at, values in points:
    at, values = np.array(at), list(values)
    fit = best_line(at, values)
    early = curve_fit(lambda x, d, c: d + c * x, at, values, bounds=([0, 0], [np.inf, np.inf]))
    lines.append({"x": at.tolist(), "y": values, "early": [float(early[0][0]), float(early[0][1]), float(np.sqrt(early[1][0, 0]))], "intercept": fit[0], "slope": fit[1], "error": fit[2]})
out["lines"] = lines

# Classification: three classes, probabilities rounded so that there are ties.
label = local.integers(0, 3, 300)
logit = local.normal(0, 1, (300, 3)) + 1.2 * np.eye(3)[label]
probability = np.round(np.exp(logit) / np.exp(logit).sum(1, keepdims=True), 2)
weight = np.round(local.exponential(1, 300) + 0.05, 3)
predicted = probability.argmax(1)


def placements_error(signal, score, weight):
    """DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988) 837; equal weights."""
    s, b = score[signal], score[~signal]
    wins = (s[:, None] > b[None, :]) + 0.5 * (s[:, None] == b[None, :])
    return float(np.sqrt(wins.mean(1).var(ddof=1) / len(s) + wins.mean(0).var(ddof=1) / len(b)))


def background_at(signal, score, efficiency, weight):
    fpr, tpr, cut = roc_curve(signal, score, sample_weight=weight, drop_intermediate=False)
    k = int(np.argmax(tpr >= efficiency))
    return {"efficiency": efficiency, "signal": float(tpr[k]), "background": float(fpr[k])}


def one_against_rest(weight):
    return [{"auc": float(roc_auc_score(label == c, probability[:, c], sample_weight=weight)),
             "cuts": [background_at(label == c, probability[:, c], e, weight) for e in (0.3, 0.5)]} for c in range(3)]


pair = label != 2
ratio = probability[:, 1] / (probability[:, 0] + probability[:, 1])
out["classification"] = {
    "label": label.tolist(), "probability": probability.ravel().tolist(), "weight": weight.tolist(),
    "accuracy": float(accuracy_score(label, predicted)), "accuracy weighted": float(accuracy_score(label, predicted, sample_weight=weight)),
    "confusion": confusion_matrix(label, predicted).ravel().tolist(),
    "confusion weighted": confusion_matrix(label, predicted, sample_weight=weight).ravel().tolist(),
    "one against rest": one_against_rest(None), "one against rest weighted": one_against_rest(weight),
    "auc error": [placements_error(label == c, probability[:, c], None) for c in range(3)],
    "mean auc": float(np.mean([roc_auc_score(label == c, probability[:, c]) for c in range(3)])),
    "one against one": {"auc": float(roc_auc_score(label[pair], ratio[pair])), "error": placements_error(label[pair] == 1, ratio[pair], None),
                        "cut": background_at(label[pair] == 1, ratio[pair], 0.5, None)},
}

# Learning curves: isotonic regression, then the size by interpolation in ln(size).
size = np.array([100.0, 300.0, 1000.0, 3000.0, 10000.0, 30000.0])
value = np.array([0.71, 0.78, 0.77, 0.83, 0.86, 0.855])
error = np.array([0.012, 0.008, 0.006, 0.005, 0.003, 0.002])
smooth = IsotonicRegression().fit_transform(np.log(size), value, sample_weight=1 / error**2)
targets = [0.74, 0.80, 0.85]
out["learning curve"] = {"size": size.tolist(), "value": value.tolist(), "error": error.tolist(), "targets": targets,
                         "needed": [float(np.exp(np.interp(t, smooth, np.log(size)))) for t in targets]}

pathlib.Path(__file__).with_name("metrics_reference.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")
