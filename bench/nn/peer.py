"""What the peers of bench_worker share: the files that compare.py and bench_worker write, and lines read and answered."""
import json
import sys
import time

import numpy as np


class Batch:
    """lengths and hidden (sequences), tokens (all of them, one sequence after the other)."""

    def __init__(self, lengths, hidden, tokens):
        self.lengths, self.hidden, self.tokens = lengths, hidden, tokens
        self.starts = np.cumsum(lengths) - lengths


def read_data(path):
    values = np.fromfile(path, dtype="<i4").astype(np.int64)
    batches, at = [], 1
    for _ in range(values[0]):
        n = values[at]
        lengths, hidden = values[at + 1 : at + 1 + n], values[at + 1 + n : at + 1 + 2 * n]
        at += 1 + 2 * n
        batches.append(Batch(lengths, hidden, values[at : at + lengths.sum()]))
        at += lengths.sum()
    return batches


def read_weights(path):
    """{name: array}; a matrix of one row becomes a vector."""
    with open(path, "rb") as file:
        entries = json.loads(file.readline())
        values = np.frombuffer(file.read(), dtype="<f4")
    weights, at = {}, 0
    for name, rows, width in entries:
        weights[name] = values[at : at + rows * width].reshape((width,) if rows == 1 else (rows, width))
        at += rows * width
    return weights


def timed(function):
    """The result of function(), and processor and wall seconds of this process."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = function()
    return result, {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def peak_memory():
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def serve(about, answer, memory_at_start):
    """Answers each line "verb batch [more]" by a line of JSON; "memory" is answered here."""
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        verb, *words = line.split()
        if verb == "memory":
            print(json.dumps({"peak": peak_memory(), "start": memory_at_start}), flush=True)
        else:
            print(json.dumps(answer(verb, int(words[0]), *words[1:])), flush=True)
