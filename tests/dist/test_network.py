"""Ranks that die at random moments, ranks on two hosts (network namespaces), and the link between them cut. Slow."""
import os
import random
import re
import signal
import subprocess
import time
import unittest
from pathlib import Path

from ranks import ENVIRONMENT, MODEL, Ranks, mpirun, program, running
from support import BIN

# What docs/ranks.md tells users to give mpirun: without it a cut link leaves the job hanging.
KEEPALIVE = re.findall(r"--mca oob_tcp_keepalive_\w+ \d+", (Path(os.environ["BEAMLINE_SOURCE"]) / "docs" / "ranks.md").read_text())
KEEPALIVE = [word for option in KEEPALIVE for word in option.split()]


class Deaths(Ranks):
    def test_kills_at_random_moments_change_no_bit(self):
        options = ["--in", "masked.bl", "--epochs", "80", "--checkpoint-every", "3"]
        self.train(None, *options, "--save", "whole.h5")
        draw = random.Random(3)
        kills, resume = 0, []
        while kills < 10:
            ranks = draw.choice([2, 3, 4])
            process, pids = self.start([*mpirun(ranks), program("bl-train"), *MODEL, *options, *resume, "--save", "m.h5"], ranks, bool(resume))
            time.sleep(draw.uniform(0, 1.2))  # while MPI starts, while the file is read, in a step, in a checkpoint
            victim = pids[draw.randrange(ranks)]
            if not running(victim):
                break  # the training is over
            os.kill(victim, signal.SIGKILL)
            _, errors = process.communicate(timeout=10)
            if (self.folder / "m.h5").exists():
                break
            kills += 1
            self.assertNotEqual(process.returncode, 0)
            resume = ["--resume", "m.h5.part.h5"]
        process.communicate(timeout=60)
        self.assertGreaterEqual(kills, 3, "it was over too soon to show anything")
        print(f"{kills} kills")
        if not (self.folder / "m.h5").exists():
            self.train(2, *options, *resume, "--save", "m.h5")
        self.assertEqual(self.digest("m.h5"), self.digest("whole.h5"))

    def test_rank_0_is_killed(self):
        options = ["--in", "masked.bl", "--epochs", "40", "--checkpoint-every", "7"]
        self.train(None, *options, "--save", "whole.h5")
        self.kill_rank(2, 0, [*options, "--save", "m.h5"])
        self.train(None, *options, "--save", "m.h5", "--resume", "m.h5.part.h5")
        self.assertEqual(self.digest("m.h5"), self.digest("whole.h5"))

    def test_large_messages(self):
        path = BIN.parent / "tests" / "bin" / "mpi_sum"
        done = subprocess.run([*mpirun(2), str(path), "2", "large"], env=ENVIRONMENT, capture_output=True, text=True, timeout=100)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


class TwoHosts(Ranks):
    """Two network namespaces joined by a pair of virtual interfaces, each with a host name of its own."""

    HOSTS = ("bl-dist-a", "bl-dist-b")

    def ip(self, *words):
        done = subprocess.run(["ip", *words], capture_output=True, text=True)
        if done.returncode != 0:
            raise unittest.SkipTest(f"ip {' '.join(words)}: {done.stderr.strip()}")

    def setUp(self):
        if os.geteuid() != 0:
            raise unittest.SkipTest("network namespaces need root")
        super().setUp()
        a, b = self.HOSTS
        for host in self.HOSTS:
            subprocess.run(["ip", "netns", "del", host], capture_output=True)
        for host in self.HOSTS:
            self.ip("netns", "add", host)
            self.addCleanup(subprocess.run, ["ip", "netns", "del", host], capture_output=True)
        self.ip("link", "add", "bla", "netns", a, "type", "veth", "peer", "name", "blb", "netns", b)
        for host, link, address in ((a, "bla", "10.98.7.1"), (b, "blb", "10.98.7.2")):
            self.ip("-n", host, "addr", "add", f"{address}/24", "dev", link)
            self.ip("-n", host, "link", "set", "lo", "up")
            self.ip("-n", host, "link", "set", link, "up")
        # Stands in for ssh: mpirun starts its daemon of the other host through it.
        agent = self.folder / "agent"
        agent.write_text(f"""#!/bin/bash
shift
exec nsenter --net=/run/netns/{b} unshare -u bash -c 'hostname {b}; exec bash -c "$0"' "$*"
""")
        agent.chmod(0o755)
        self.job = ["nsenter", f"--net=/run/netns/{a}", "unshare", "-u", "bash", "-c", f'hostname {a}; exec "$0" "$@"',
                    *mpirun(2, "--mca", "plm_rsh_agent", str(agent), "--host", "10.98.7.1:1,10.98.7.2:1", "--mca", "pml", "ob1", "--mca", "btl", "self,tcp",
                            "--mca", "btl_tcp_if_include", "10.98.7.0/24", "--mca", "oob_tcp_if_include", "10.98.7.0/24", *KEEPALIVE, "-wdir", str(self.folder)),
                    program("bl-train"), *MODEL, "--in", "masked.bl"]

    def test_one_digest_on_two_hosts(self):
        done = subprocess.run([*self.job, "--epochs", "3", "--save", "two.h5"], cwd=self.folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=100)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.train(None, "--in", "masked.bl", "--epochs", "3", "--save", "one.h5")
        self.assertEqual(self.digest("two.h5"), self.digest("one.h5"))

    def test_a_cut_link_ends_the_job_and_its_checkpoint_resumes(self):
        options = ["--epochs", "200", "--checkpoint-every", "5"]
        process, _ = self.start([*self.job, *options, "--save", "m.h5"])
        ranks = [int(p) for p in subprocess.run(["pgrep", "-f", f"^{program('bl-train')} .*--in masked.bl"], capture_output=True, text=True).stdout.split()]
        ranks = [pid for pid in ranks if Path(f"/proc/{pid}/cwd").resolve() == self.folder.resolve()]
        self.assertEqual(len(ranks), 2)
        self.ip("-n", self.HOSTS[0], "link", "set", "bla", "down")
        errors, seconds = self.end_of(process, 30)
        self.assertNotEqual(process.returncode, 0)
        self.assertRegex(errors, r"lost communication|daemon|rank")
        print(f"the job ended {seconds:.1f} s after the cut")
        deadline = time.monotonic() + 20
        while any(running(pid) for pid in ranks):
            self.assertLess(time.monotonic(), deadline, "a rank outlives the job")
            time.sleep(0.1)
        self.train(2, "--in", "masked.bl", *options, "--save", "m.h5", "--resume", "m.h5.part.h5")
        self.train(None, "--in", "masked.bl", *options, "--save", "one.h5")
        self.assertEqual(self.digest("m.h5"), self.digest("one.h5"))


if __name__ == "__main__":
    unittest.main()
