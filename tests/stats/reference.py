"""Writes reference.json, the values that test_stats.cpp compares with, by scikit-learn and scipy.

Run it in an environment with numpy, scipy and scikit-learn; the tests need none of them, only the file.
"""
import json
import pathlib

import numpy as np
import scipy
import sklearn
from scipy import optimize, special, stats
from sklearn.metrics import roc_auc_score, roc_curve

rng = np.random.default_rng(20)
out = {"made with": {"numpy": np.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__}}

# A sample with many ties: 400 events, scores rounded to 0.2.
label = rng.integers(0, 2, 400)
score = np.round(rng.normal(0.6 * label, 1.0) * 5) / 5
weight = np.round(rng.exponential(1.0, 400) + 0.05, 3)
fpr, tpr, cut = roc_curve(label, score, sample_weight=weight, drop_intermediate=False)
signal, background = score[label == 1], score[label == 0]


def delong_error(s, b):
    """DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988) 837."""
    wins = (s[:, None] > b[None, :]) + 0.5 * (s[:, None] == b[None, :])
    return float(np.sqrt(wins.mean(1).var(ddof=1) / len(s) + wins.mean(0).var(ddof=1) / len(b)))


out["sample"] = {
    "label": label.tolist(),
    "score": score.tolist(),
    "weight": weight.tolist(),
    "auc": roc_auc_score(label, score),
    "auc weighted": roc_auc_score(label, score, sample_weight=weight),
    "auc error": delong_error(signal, background),
    "fpr": fpr[1:].tolist(),
    "tpr": tpr[1:].tolist(),
    "cut": cut[1:].tolist(),
    "ks": float(stats.ks_2samp(signal, background).statistic),
    "spearman": float(stats.spearmanr(score, weight).statistic),
    "quantiles": [float(q) for q in np.quantile(score, [0.0, 0.05, 0.5, 0.95, 1.0])],
    "mann whitney": float(stats.mannwhitneyu(signal, background).statistic) / (len(signal) * len(background)),
}

out["kolmogorov"] = [[x, float(special.kolmogorov(x))] for x in (0.1, 0.3, 0.5, 0.9, 1.17, 1.19, 1.5, 2.0, 3.0)]
out["betainc"] = [
    [a, b, x, float(special.betainc(a, b, x))]
    for a, b, x in ((0.5, 0.5, 0.2), (1, 3, 0.5), (10, 2, 0.9), (300, 700, 0.31), (2.5, 4000, 0.001), (50000, 50000, 0.501))
]
level = float(special.erf(1 / np.sqrt(2)))
out["clopper pearson"] = [
    [k, n, *map(float, stats.binomtest(k, n).proportion_ci(level, method="exact"))]
    for k, n in ((0, 10), (10, 10), (3, 10), (1, 1000), (700, 1000), (45, 100000))
]


def on_off(s, b, sigma):
    """Maximum likelihood by a numerical fit: n = s + b events, and m = b tau in a side region of b tau, tau = b / sigma^2."""
    tau = b / sigma**2
    n, m = s + b, b * tau

    def loss(mu, nu):
        return mu + nu - n * np.log(mu + nu) + tau * nu - m * np.log(tau * nu)

    null = optimize.minimize_scalar(lambda nu: loss(0.0, nu), bounds=(b / 10, b + s + 10 * sigma), method="bounded", options={"xatol": 1e-12})
    return float(np.sqrt(2 * (null.fun - loss(s, b))))


out["asimov"] = [[s, b, 0.0, float(np.sqrt(2 * ((s + b) * np.log(1 + s / b) - s)))] for s, b in ((5, 100), (10, 1), (0.1, 50))]
out["asimov"] += [[s, b, e, on_off(s, b, e)] for s, b, e in ((5, 100, 10), (20, 30, 3), (50, 10, 2))]

# Error of a weighted efficiency by 20,000 multinomial bootstraps.
w = np.round(rng.exponential(1.0, 500), 3)
passed = rng.random(500) < 0.2
draws = rng.multinomial(500, np.full(500, 1 / 500), size=20000)
ratio = (draws * (w * passed)).sum(1) / (draws * w).sum(1)
out["weighted efficiency"] = {
    "weight": w.tolist(),
    "passed": passed.astype(int).tolist(),
    "value": float((w * passed).sum() / w.sum()),
    "bootstrap error": float(ratio.std(ddof=1)),
}
pathlib.Path(__file__).with_name("reference.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")
