#!/usr/bin/env python3
"""The engine beside its peers, as ratios: one run, one table.

    compare.py --worker build/bench/nn/bench_worker [--python PYTHON] [--json FILE] [--seconds 840] [--only NAME…]

PYTHON is one that has torch, onnxruntime and onnx (make -f Makefile.workflow bench-venv makes it); without it the peers
are skipped, and the table says so. The engine and its peers are processes that take turns, step by step, on the same data
from the same weights; a ratio is the median over the turns of (rate of the engine / rate of the peer in the same turn).
Rates per core-second divide by the processor time of the whole process, so that other load disturbs them little; rates
by the wall do not. Where the time runs out, later turns are left out (two always count); the JSON says how many there were.

Exit codes: 0, 1 when a peer computes something else than the engine or a process fails, 2 for wrong arguments. A goal that
is not reached is shown, not an error.
"""
import argparse
import array
import glob
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
GPT_JETS, GPT_CODES = 256, 8192
ENCODER_IDS = 966
PARTS = ["gpt", "generation", "encoder", "inference"]


# --- data ------------------------------------------------------------------------------------------------------------
def write_batches(path, batches):
    values = array.array("i", [len(batches)])
    for lengths, hidden, tokens in batches:
        values.extend([len(lengths), *lengths, *hidden, *tokens])
    if sys.byteorder == "big":
        values.byteswap()
    Path(path).write_bytes(values.tobytes())


def jets(count, generator):
    """Lengths of jets (constituents: a gamma distribution of mean 47 and deviation 19, cut to 5 … 128)."""
    return [min(128, max(5, round(generator.gammavariate(6.5, 7.3)))) for _ in range(count)]


def jet_batches(lists, generator):
    weights = [1 / k**1.15 for k in range(1, GPT_CODES + 1)]  # codes as often as words: Zipf's law
    return [(lengths, [0] * len(lengths), generator.choices(range(GPT_CODES), weights=weights, k=sum(lengths))) for lengths in lists]


def write_gpt_data(folder, rounds):
    """jets: batches as they come. sorted: of 40 batches sorted by length, one at each of `rounds` + 1 even quantiles."""
    generator = random.Random(1)
    write_batches(folder / "jets", jet_batches([jets(GPT_JETS, generator) for _ in range(rounds + 1)], generator))
    everything = sorted(jets(40 * GPT_JETS, generator))
    quantiles = sorted(range(rounds), key=lambda i: -abs(i - (rounds - 1) / 2))  # from both ends, so that any two belong together
    starts = [GPT_JETS * 20] + [GPT_JETS * int((i + 0.5) * 40 / rounds) for i in quantiles]  # the first warms up
    write_batches(folder / "sorted", jet_batches([everything[s : s + GPT_JETS] for s in starts], generator))


def write_event_data(path, events, rounds):
    """Events of 7 to 18 objects."""
    generator = random.Random(2)
    batches = []
    for _ in range(rounds + 1):
        lengths = [generator.randint(7, 18) for _ in range(events)]
        batches.append((lengths, [generator.randrange(n) for n in lengths], generator.choices(range(ENCODER_IDS), k=sum(lengths))))
    write_batches(path, batches)


# --- processes -------------------------------------------------------------------------------------------------------
class Failed(Exception):
    pass


class Worker:
    """A process that answers lines by lines of JSON, and sleeps in between."""

    def __init__(self, name, command, environment=None):
        self.name, self.errors = name, tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
                                        env=os.environ | (environment or {}))
        self.about = self._read()

    def ask(self, *words):
        try:
            self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # _read() says why
        return self._read()

    def _read(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().strip().splitlines()
        raise Failed(f"{self.name} ended with code {code}: {said[-1] if said else 'it said nothing'}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.rows, self.failures, self.notes = [], [], []
        self.start, self.share_ends = time.monotonic(), float("inf")
        self.tcmalloc = next(iter(sorted(glob.glob("/usr/lib/*/libtcmalloc*.so.4") + glob.glob("/usr/lib*/libtcmalloc*.so.4"))), None)
        self.torch = self.version_of("torch")
        self.onnx = self.version_of("onnxruntime") if self.version_of("onnx") else None

    def version_of(self, module):
        if not self.options.python:
            return None
        done = subprocess.run([self.options.python, "-c", f"import {module}; print({module}.__version__)"], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    def engine(self, model, data, name="beamline", **options):
        extra = [w for key, value in options.items() for w in (f"--{key}", value)]
        return Worker(name, [self.options.worker, model, "--data", self.folder / data, "--weights", self.folder / "weights", *extra])

    def peer(self, script, words, data, name, **options):
        extra = [w for key, value in options.items() for w in (f"--{key}", value)]
        # allocations of torch cost much less with tcmalloc
        environment = {"LD_PRELOAD": self.tcmalloc} if self.tcmalloc else {}
        return Worker(name, [self.options.python, HERE / script, *words, "--data", self.folder / data, "--weights", self.folder / "weights", *extra], environment)

    def share(self, part):
        """The next measurement may take this part of the time that is left."""
        self.share_ends = time.monotonic() + part * (self.options.seconds - (time.monotonic() - self.start))

    def over(self, answers):
        """Warm-up and two turns have been made, and the time is up."""
        return answers >= 3 and time.monotonic() > self.share_ends

    def say(self, text):
        print(f"# {time.monotonic() - self.start:5.0f} s  {text}", file=sys.stderr, flush=True)

    def same(self, what, engine, other, tolerance):
        """Both started from the same weights: the first answers must agree."""
        if abs(engine - other) > tolerance * abs(engine):
            self.failures.append(f"{what}: the engine computes {engine:.6f}, the peer {other:.6f}")

    def row(self, section, what, unit, engine, peer=None, ratio=None, goal=None, better=">=", turns=None, **more):
        reached = None if goal is None or ratio is None else ratio >= goal if better == ">=" else ratio <= goal
        self.rows.append({"section": section, "what": what, "unit": unit, "engine": engine, "peer": peer, "ratio": ratio, "goal": goal, "better": better,
                          "reached": reached, "turns": turns} | more)

    def turns(self, engine, peers, command, rounds):
        """The engine and its peers do batches 0 … rounds, in turns; batch 0 warms up. {name: [answer of each turn]}."""
        answers = {w.name: [] for w in [engine, *peers]}
        for batch in range(rounds + 1):
            for worker in [engine, *peers] if batch % 2 == 0 else [*peers[::-1], engine]:
                answers[worker.name].append(worker.ask(*command(batch)))
            if self.over(batch + 1):
                break
        return answers


def rates(answers, clock):
    return [a["tokens"] / a[clock] for a in answers[1:]]


def paired(engine, peer):
    return statistics.median(e / p for e, p in zip(engine, peer))


# --- what is measured ------------------------------------------------------------------------------------------------
def bench_gpt(bench, threads, rounds):
    options = {"threads": threads}
    clock, unit = ("cpu", "tokens/core-s") if threads == 1 else ("wall", "tokens/s wall")
    section = f"GPT training, {threads} thread{'s' if threads > 1 else ''}"
    engines = [bench.engine("gpt", "jets", **options)]
    peers = {}
    if bench.torch:
        peers = {"packed": ("jets", "packed", "f32"), "sorted by length": ("sorted", "longest", "f32"), "padded": ("jets", "padded", "f32"),
                 "packed bf16": ("jets", "packed", "bf16")}
    everybody = list(engines)
    try:
        try:
            everybody.append(bench.engine("gpt", "jets", name="beamline bf16", precision="bf16", **options))
        except Failed as e:
            bench.notes.append(f"bf16: not measured, {e}")
        for name, (data, mode, precision) in peers.items():
            everybody.append(bench.peer("torch_peer.py", ["gpt", mode], data, name, precision=precision, **options))
        # The peak is measured between the steps: it moves with the clock frequency.
        peaks = [engines[0].ask("peak")["gflops"]]
        answers = {w.name: [] for w in everybody}
        for batch in range(rounds + 1):
            for worker in everybody if batch % 2 == 0 else everybody[::-1]:
                bench.say(f"{section}: {worker.name}, turn {batch} of {rounds}")
                answers[worker.name].append(worker.ask("train", batch))
            peaks.append(engines[0].ask("peak")["gflops"])
            if bench.over(batch + 1):
                break
        memory = {w.name: w.ask("memory") for w in everybody}
        breakdown = engines[0].ask("breakdown", 1) if threads == 1 else None
        product = engines[0].ask("product")["gflops"] if threads == 1 else None
    finally:
        for worker in everybody:
            worker.__exit__()
    ours, rounds = answers["beamline"], batch
    for name in set(answers) - {"beamline", "sorted by length"}:
        bench.same(f"{section}, {name}", ours[0]["loss"], answers[name][0]["loss"], 1e-3 if "bf16" in name else 1e-5)
    peak = statistics.median(peaks)
    ratios = {}
    for name in answers:
        if name in ("beamline", "beamline bf16"):
            continue
        engine = answers.get("beamline bf16") if "bf16" in name else ours
        if engine is None:
            continue
        e, p = rates(engine, clock), rates(answers[name], clock)
        # Batches of other lengths are other work: there the ratio of the totals is taken.
        total = lambda a: sum(x["tokens"] for x in a[1:]) / sum(x[clock] for x in a[1:])
        ratios[name] = (total(engine) / total(answers[name]), total(answers[name])) if name == "sorted by length" else (paired(e, p), statistics.median(p))
    rate, bf16 = statistics.median(rates(ours, clock)), None
    if "beamline bf16" in answers:
        bf16 = statistics.median(rates(answers["beamline bf16"], clock))
    best = min((n for n in ratios if n in ("packed", "sorted by length")), key=lambda n: ratios[n][0], default=None)
    for name, (ratio, peer) in ratios.items():
        goal = 1.7 if name == best else 6.0 if name == "padded" else 1.8 if name == "packed bf16" else None
        bench.row(section, f"/ PyTorch {name}" + (" (its best in f32)" if name == best else ""), unit, bf16 if "bf16" in name else rate, peer, ratio, goal, turns=rounds)
    if not ratios:
        bench.row(section, "f32", unit, rate, turns=rounds)
    if bf16 and "packed bf16" not in ratios:
        bench.row(section, "bf16", unit, bf16, turns=rounds)
    if bf16:
        gain = paired(rates(answers["beamline bf16"], clock), rates(ours, clock))
        bench.row(section, "bf16 / f32 of the engine", unit, bf16, rate, gain, turns=rounds)
    if threads == 1:
        share = statistics.median(100e-9 * a["flops"] / a["cpu"] / peak for a in ours[1:])
        bench.row(section, "% of the FMA peak, f32", "GFLOP/s", share * peak / 100, peak, share, 83.0, turns=rounds)
        bench.row(section, "% of one large product of the library", "GFLOP/s", share * peak / 100, product, share * peak / product, turns=rounds)
    if "packed" in memory:
        engine, peer = memory["beamline"]["peak"], memory["packed"]["peak"]
        bench.row(section, "memory / PyTorch packed", "MiB", engine / 2**20, peer / 2**20, engine / peer, 0.2, "<=", turns=1)
    else:
        bench.row(section, "memory", "MiB", memory["beamline"]["peak"] / 2**20, turns=1)
    if breakdown:
        bench.breakdown = breakdown | {"peak": peak, "product": product}


def bench_encoder(bench, dim, rounds):
    write_event_data(bench.folder / "events", 128 if dim == 512 else 256, rounds)
    everybody = [bench.engine("encoder", "events", dim=dim)]
    try:
        try:
            everybody.append(bench.engine("encoder", "events", name="beamline bf16", dim=dim, precision="bf16"))
        except Failed as e:
            bench.notes.append(f"bf16: not measured, {e}")
        if bench.torch:
            everybody += [bench.peer("torch_peer.py", ["encoder", mode], "events", mode, dim=dim) for mode in ("packed", "padded")]
        peaks, end = [], bench.share_ends
        for targets in ("all", "one"):
            bench.share_ends = (time.monotonic() + end) / 2 if targets == "all" else end
            section = f"encoder training, dim {dim}, {'every token' if targets == 'all' else 'one token an event'} hidden"
            bench.say(section)
            answers = bench.turns(everybody[0], everybody[1:], lambda batch: ("train", batch, targets), rounds)
            peaks.append(everybody[0].ask("peak")["gflops"])
            ours = answers["beamline"]
            turns = len(ours) - 1
            share = statistics.median(100e-9 * a["flops"] / a["cpu"] / peaks[-1] for a in ours[1:])
            rate = statistics.median(rates(ours, "cpu"))
            for name in [n for n in answers if not n.startswith("beamline")]:
                if targets == "all":  # the second pass starts from weights that have moved
                    bench.same(f"{section}, {name}", ours[0]["loss"], answers[name][0]["loss"], 1e-5)
                p = rates(answers[name], "cpu")
                goal = (1.3 if dim == 512 else 1.8) if name == "packed" else None
                bench.row(section, f"/ PyTorch {name}", "tokens/core-s", rate, statistics.median(p), paired(rates(ours, "cpu"), p), goal, turns=turns,
                          percent_of_peak=share)
            if not bench.torch:
                bench.row(section, "f32", "tokens/core-s", rate, turns=turns)
            if "beamline bf16" in answers:
                halved = rates(answers["beamline bf16"], "cpu")
                bench.row(section, "bf16 / f32 of the engine", "tokens/core-s", statistics.median(halved), rate, paired(halved, rates(ours, "cpu")), turns=turns)
            bench.row(section, "% of the FMA peak", "GFLOP/s", share * peaks[-1] / 100, peaks[-1], share, turns=turns)
    finally:
        for worker in everybody:
            worker.__exit__()


def bench_inference(bench, dim, rounds):
    section = f"encoder inference, dim {dim}"
    bench.say(section)
    write_event_data(bench.folder / "events", 1024 if dim < 512 else 256, rounds)
    everybody = [bench.engine("encoder", "events", dim=dim)]
    try:
        if bench.onnx:
            everybody += [bench.peer("onnx_peer.py", [mode], "events", mode, dim=dim) for mode in ("equal", "padded")]
        answers = bench.turns(everybody[0], everybody[1:], lambda batch: ("score", batch), rounds)
        ours = answers["beamline"]
        events = {n: [a["events"] / a["cpu"] for a in list_[1:]] for n, list_ in answers.items()}
        rate, turns = statistics.median(events["beamline"]), len(ours) - 1
        for name, text in (("equal", "/ ONNX Runtime, batches of equal length"), ("padded", "/ ONNX Runtime padded")):
            if name in answers:
                bench.same(f"{section}, {name}", ours[0]["score"], answers[name][0]["score"], 1e-4)
                bench.row(section, text, "events/core-s", rate, statistics.median(events[name]), paired(events["beamline"], events[name]), turns=turns)
        if not bench.onnx:
            bench.row(section, "throughput", "events/core-s", rate, turns=turns)
        if dim < 512:
            write_event_data(bench.folder / "singles", 256, 2)
            latency = {}
            with bench.engine("encoder", "singles", dim=dim) as engine:
                singles = [engine] + ([bench.peer("onnx_peer.py", ["equal"], "singles", "onnx", dim=dim)] if bench.onnx else [])
                try:
                    for batch in range(3):
                        for worker in singles:
                            answer = worker.ask("latency", batch)
                            if batch > 0:
                                latency.setdefault(worker.name, []).extend(answer["microseconds"])
                finally:
                    for worker in singles[1:]:
                        worker.__exit__()
            median = {n: statistics.median(v) for n, v in latency.items()}
            peer = median.get("onnx")
            bench.row(section, "latency of one event" + (", ONNX Runtime / beamline" if peer else ""), "us, median", median["beamline"], peer,
                      peer / median["beamline"] if peer else None, turns=512,
                      p99={n: sorted(v)[int(0.99 * len(v))] for n, v in latency.items()})
    finally:
        for worker in everybody:
            worker.__exit__()


def bench_generation(bench, sequences, rounds):
    """One thread, a jet at a time or many at once. Every way makes 128 tokens a jet; and the engine also makes jets that
    stop, of which the paper's code makes 128 tokens all the same and throws away what follows the stop."""
    section = f"generation, {'one jet at a time' if sequences == 1 else f'{sequences} jets at once'}"
    everybody = [bench.engine("gpt", "jets")]
    try:
        if bench.torch:
            everybody += [bench.peer("torch_generate.py", [mode], "jets", mode) for mode in ("cacheless", "cached")]
        engine = everybody[0]
        if sequences == 1:
            greedy = {w.name: w.ask("greedy", 1) for w in everybody}
            for name in set(greedy) - {"beamline"}:
                bench.same(f"{section}, {name}, log-probability of the greedy jet", greedy["beamline"]["logp"], greedy[name]["logp"], 1e-4)
                if greedy[name]["ids"] != greedy["beamline"]["ids"]:
                    bench.notes.append(f"{section}: the greedy jet of {name} has other tokens (near ties are broken by rounding)")
        answers, stopping = {w.name: [] for w in everybody}, []
        for turn in range(rounds + 1):
            bench.say(f"{section}, turn {turn} of {rounds}")
            for worker in everybody if turn % 2 == 0 else everybody[::-1]:
                answers[worker.name].append(worker.ask("generate", sequences))
                if worker is engine:
                    stopping.append(engine.ask("jets", sequences))
            if bench.over(turn + 1):
                break
        ours, jets = rates(answers["beamline"], "cpu"), rates(stopping, "cpu")
        rate, turns = statistics.median(ours), len(ours)
        length = sum(s["tokens"] for s in stopping) / sum(s["sequences"] for s in stopping)
        if bench.torch:
            cacheless, cached = rates(answers["cacheless"], "cpu"), rates(answers["cached"], "cpu")
            kept = [r * length / 128 for r in cacheless]
            bench.row(section, f"jets of {length:.0f} tokens / PyTorch as the paper's code", "tokens/core-s", statistics.median(jets), statistics.median(kept),
                      paired(jets, kept), 20 if sequences == 1 else 60, turns=turns)
            bench.row(section, "128 tokens each / PyTorch without a cache", "tokens/core-s", rate, statistics.median(cacheless), paired(ours, cacheless), turns=turns)
            bench.row(section, "128 tokens each / PyTorch with a KV cache", "tokens/core-s", rate, statistics.median(cached), paired(ours, cached), 2, turns=turns)
        else:
            bench.row(section, f"jets of {length:.0f} tokens", "tokens/core-s", statistics.median(jets), turns=turns)
            bench.row(section, "128 tokens each", "tokens/core-s", rate, turns=turns)
    finally:
        for worker in everybody:
            worker.__exit__()


# --- the table -------------------------------------------------------------------------------------------------------
def machine():
    about = {"system": platform.platform(), "cores": os.cpu_count(), "load": [round(x, 2) for x in os.getloadavg()]}
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(reversed([[p.strip() for p in line.split(":", 1)] for line in text.splitlines() if ":" in line]))
    about["cpu"] = fields.get("model name", platform.machine())
    flags = fields.get("flags", "").split()
    about["vectors"] = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags]
    return about


def number(x):
    return "-" if x is None else f"{x:,.0f}" if abs(x) >= 100 else f"{x:.2f}"


def print_table(bench):
    width = max(len(r["what"]) for r in bench.rows)
    print(f"\n{'':{width}}  {'beamline':>10} {'peer':>10} {'ratio':>7}  {'goal':>8}")
    section = None
    for r in bench.rows:
        if r["section"] != section:
            section = r["section"]
            print(section)
        unit = r["unit"]
        goal = "" if r["goal"] is None else f"{'≥' if r['better'] == '>=' else '≤'} {r['goal']:g}"
        verdict = "" if r["reached"] is None else "reached" if r["reached"] else "NOT reached"
        ratio = "-" if r["ratio"] is None else f"{r['ratio']:.2f}" if r["ratio"] < 10 else f"{r['ratio']:.1f}"
        print(f"  {r['what']:{width}}{number(r['engine']):>10} {number(r['peer']):>10} {ratio:>7}  {goal:>8}  {verdict:11}  {unit}".rstrip())
    if bench.breakdown:
        step, peak = bench.breakdown["step"], bench.breakdown["peak"]
        print(f"\nwhere a GPT step goes (f32, one thread, {step:.2f} s of processor time; peak {peak:.0f} GFLOP/s, one product of 2048x2048x2048 "
              f"{bench.breakdown['product']:.0f})")
        print(f"  {'op':26} {'forward ms':>10} {'backward ms':>11} {'share %':>8} {'GFLOP/s':>8} {'% peak':>7}")
        for op in bench.breakdown["ops"]:
            t = op["forward"] + op["backward"]
            speed = 1e-9 * op["flops"] / t
            both = f"{speed:8.0f} {100 * speed / peak:7.0f}" if op["flops"] else f"{'-':>8} {'-':>7}"
            print(f"  {op['name']:26} {1e3 * op['forward']:10.1f} {1e3 * op['backward']:11.1f} {100 * t / step:8.1f} {both}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", required=True, help="bench_worker of the build")
    parser.add_argument("--python", default="", help="Python with torch, onnxruntime and onnx")
    parser.add_argument("--json", default="", help="where the numbers go")
    parser.add_argument("--rounds", type=int, default=3, help="turns of the GPT; the small models take three times as many")
    parser.add_argument("--seconds", type=float, default=840, help="the whole run should take no longer")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    about = machine()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder))
        bench.breakdown = None
        about |= {"torch": bench.torch, "onnxruntime": bench.onnx, "tcmalloc": bench.tcmalloc}
        print(f"machine: {about['cpu']}, {about['cores']} cores, {' '.join(about['vectors'])}; {about['system']}; load {about['load'][0]} before")
        print("peers:   " + (f"PyTorch {bench.torch}" if bench.torch else "PyTorch SKIPPED") + ", " +
              (f"ONNX Runtime {bench.onnx}" if bench.onnx else "ONNX Runtime SKIPPED") + ", " +
              (f"with {Path(bench.tcmalloc).name}" if bench.tcmalloc else "without tcmalloc (no libtcmalloc-minimal4 here)"))
        if not bench.torch or not bench.onnx:
            why = f"{options.python} has none" if options.python else "no Python given"
            print(f"         peers skipped: {why}; make -f Makefile.workflow bench-venv, then bench BENCH_PYTHON=.venv-bench/bin/python")
        plan = []  # function, what, turns, weight: how the time is shared out
        if "gpt" in options.only:
            write_gpt_data(bench.folder, options.rounds)
            plan += [(bench_gpt, threads, options.rounds, 5) for threads in (1, 2) if threads <= os.cpu_count()]
        if "generation" in options.only:
            if "gpt" not in options.only:
                write_gpt_data(bench.folder, options.rounds)
            plan += [(bench_generation, sequences, options.rounds, 1) for sequences in (1, 64, 256)]
        for dim in (64, 128, 512):
            plan += [(bench_encoder, dim, 3 * options.rounds, 1 if dim < 512 else 3)] if "encoder" in options.only else []
            plan += [(bench_inference, dim, 3 * options.rounds, 1)] if "inference" in options.only else []
        for i, (function, what, rounds, weight) in enumerate(plan):
            bench.share(weight / sum(w for *_, w in plan[i:]))
            try:
                function(bench, what, rounds)
            except Failed as e:
                bench.failures.append(str(e))
        about["load_after"] = [round(x, 2) for x in os.getloadavg()]
        about["seconds"] = round(time.monotonic() - bench.start)
        if bench.rows:
            print_table(bench)
        print(f"\n{about['seconds']} s; load {about['load_after'][0]} after")
        for note in bench.notes:
            print(f"note: {note}")
        for failure in bench.failures:
            print(f"FAILED: {failure}")
        if options.json:
            Path(options.json).write_text(json.dumps({"machine": about, "rows": bench.rows, "breakdown": bench.breakdown, "failures": bench.failures}, indent=1) + "\n")
        return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
