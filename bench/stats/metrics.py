"""The metrics of bench_stats by jetnet, scipy and energyflow, on one thread. The environment is that of
tests/stats/metrics_reference.py."""
import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"
import pathlib
import sys
import time
import warnings

import numpy as np
from scipy.stats import wasserstein_distance

warnings.simplefilter("ignore")
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests/stats"))
from jetnet_alone import energyflow, gen_metrics  # noqa: E402


def seconds(work):
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


rng = np.random.default_rng(1)
a, b = rng.random((50_000, 36)), rng.random((50_000, 36))
gen_metrics.kpd(a[:50], b[:50], num_batches=1, batch_size=50)  # compiled by numba at its first use
print(f"FPD, 50,000 x 36, defaults          {seconds(lambda: gen_metrics.fpd(a, b)):8.3f} s")
print(f"KPD, 50,000 x 36, defaults          {seconds(lambda: gen_metrics.kpd(a, b)):8.3f} s")
x, y = a.ravel()[:1_000_000], b.ravel()[:1_000_000]
print(f"W1 of 1,000,000 values              {seconds(lambda: wasserstein_distance(x, y)):8.3f} s")
for n in (20, 50, 100):
    jets = []
    for j in range(100):
        pt = np.exp(-6 * rng.random(n))
        jets.append(np.stack([pt / pt.sum() / (1 + 0.1 * (j % 3)), rng.normal(0, 0.3, n), rng.normal(0, 0.3, n)], 1))
    emd = seconds(lambda: energyflow.emd.emds(jets, jets, R=1.0, n_jobs=1))
    efpset = energyflow.EFPSet(("d<=", 4), measure="hadr", beta=1, normed=None, coords="ptyphim")
    efp = seconds(lambda: [efpset.compute(jet) for jet in jets])
    print(f"{n:3d} particles: EMD {emd * 1e2:8.1f} us, 36 energy flow polynomials {efp * 1e4:8.1f} us")
