"""bl-train under mpirun, for the tests of this folder."""
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import numpy as np

import beamline

sys.path.append(str(Path(os.environ["BEAMLINE_SOURCE"]) / "tests" / "python"))
from support import program  # noqa: E402

TOKENIZER = {"hash": "00000000000000aa", "vocabulary": 60, "mask": 59, "positions": 16}
MODEL = ["--dim", "16", "--layers", "2", "--heads", "2", "--batch", "64", "--shard", "8", "--warmup", "10", "--lr", "0.005",
         "--dropout", "0.1", "--ema", "0.9"]
# mpirun refuses to run as root, and to start more ranks than there are cores, unless told; it binds two ranks to a core
# each, where the threads of one would share it.
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def mpirun(ranks, *options):
    """mpirun -n RANKS (of Open MPI, also as "OpenRTE", or another); skips the test where there is none, or the programs were built without MPI."""
    if os.environ.get("BEAMLINE_NO_MPI"):
        raise unittest.SkipTest(os.environ["BEAMLINE_NO_MPI"])
    path = os.environ.get("BEAMLINE_MPIRUN", "mpirun")
    try:
        version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20).stdout
    except OSError as e:
        raise unittest.SkipTest(f"{path} cannot be run ({e}): install openmpi-bin")
    return [path, "-n", str(ranks), *(["--oversubscribe", "--bind-to", "none"] if "Open" in version else []), *options]


def columns(events, seed):
    """Tokens that follow from their neighbours; one of them hidden."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(4, 14, events)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    position = np.concatenate([np.arange(c) for c in counts])
    token = (np.repeat(rng.integers(0, 50, events), counts) + 3 * position) % 50
    mask = np.zeros(len(token), np.uint8)
    mask[offsets[:-1] + rng.integers(0, counts)] = 1
    return {
        "event_index": np.arange(events, dtype=np.uint64) + np.uint64(1000 * seed),
        "event_id": np.arange(events, dtype=np.uint64),
        "weight": np.ones(events),
        **beamline.text_column("process", ["tt"] * events),
        "token_offsets": offsets.astype(np.uint32),
        "token": token.astype(np.int32),
        "position": position.astype(np.uint16),
        "category": np.ones(len(token), np.uint8),
        "mask": mask,
    }


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def rank_of(pid):
    """Rank of a process that mpirun started, None when it is none (or gone)."""
    try:
        for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if entry.startswith(b"OMPI_COMM_WORLD_RANK="):
                return int(entry.split(b"=")[1])
    except OSError:
        pass
    return None


def started(mpirun_pid):
    """{rank: process} of what this mpirun started on its own machine."""
    return {rank_of(pid): pid for pid in children(mpirun_pid) if rank_of(pid) is not None}


def running(pid):
    """False for a process that is gone or only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Ranks(unittest.TestCase):
    def setUp(self):
        mpirun(1)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        with beamline.Writer(self.folder / "masked.bl", "masked/1", meta={"tokenizer": TOKENIZER, "mask": {"mode": "one", "seed": 1}}) as out:
            for seed in range(3):
                out.write(columns(400, seed))

    def train(self, ranks, *options, expect=0, stdin=None):
        """One training; ranks None: without mpirun. Returns what it said."""
        command = [*([] if ranks is None else mpirun(ranks)), program("bl-train"), *MODEL, *options]
        done = subprocess.run(command, cwd=self.folder, env=ENVIRONMENT, stdin=stdin or subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, expect, done.stderr)
        return done.stderr

    def digest(self, name):
        return subprocess.run([program("bl-show"), "--digest", name], cwd=self.folder, capture_output=True, text=True, check=True).stdout

    def start(self, command, ranks=0, early=False):
        """Starts mpirun; returns it and the processes of its ranks, once there is a checkpoint m.h5.part.h5; early: once all
        of the ranks have been started."""
        process = subprocess.Popen(command, cwd=self.folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        deadline = time.monotonic() + 60
        while len(started(process.pid)) < ranks if early else not (self.folder / "m.h5.part.h5").exists():
            self.assertIsNone(process.poll(), "it ended before the first checkpoint")
            self.assertLess(time.monotonic(), deadline, "no checkpoint within a minute")
            time.sleep(0.002)
        return process, started(process.pid)

    def end_of(self, process, seconds):
        """What mpirun said at its end, which must come within so many seconds."""
        started = time.monotonic()
        try:
            _, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.fail(f"mpirun still runs after {seconds} s")
        self.assertFalse((self.folder / "m.h5").exists(), "the training was over before")
        return errors, time.monotonic() - started

    def kill_rank(self, ranks, victim, options, seconds=5):
        process, pids = self.start([*mpirun(ranks), program("bl-train"), *MODEL, *options])
        self.assertEqual(sorted(pids), list(range(ranks)))
        os.kill(pids[victim], signal.SIGKILL)
        errors, _ = self.end_of(process, seconds)
        self.assertNotEqual(process.returncode, 0)
        self.assertRegex(errors, rf"rank {victim} .*signal 9")
        time.sleep(0.1)
        self.assertEqual([pid for pid in pids.values() if running(pid)], [])
