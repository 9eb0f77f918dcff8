"""bl-train as ranks of MPI: one digest for any number of them, whole jobs that end when one dies, resume."""
import os
import signal
import subprocess
import unittest
from pathlib import Path

from ranks import ENVIRONMENT, MODEL, Ranks, mpirun, program
from support import BIN


class Program(Ranks):
    def test_sum_over_ranks_has_the_bits_of_one_process(self):
        path = BIN.parent / "tests" / "bin" / "mpi_sum"
        for ranks in (3, 4):
            done = subprocess.run([*mpirun(ranks), str(path), str(ranks)], env=ENVIRONMENT, capture_output=True, text=True, timeout=100)
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_one_digest_for_any_number_of_ranks_and_threads(self):
        options = ["--in", "masked.bl", "--epochs", "2", "--metrics"]
        self.train(None, *options, "one.json", "--save", "one.h5")
        expected = self.digest("one.h5")
        for ranks, threads in ((None, 2), (1, 1), (2, 1), (2, 2), (4, 1)):
            name = f"r{ranks}t{threads}"
            said = self.train(ranks, *options, f"{name}.json", "--save", f"{name}.h5", "--threads", str(threads))
            self.assertEqual(self.digest(f"{name}.h5"), expected, f"{ranks} ranks, {threads} threads")
            self.assertEqual(said, "")
            # written by one rank, and once
            self.assertEqual((self.folder / f"{name}.json").read_text().count('"epoch_done"'), 2)
        self.train(None, *options, "other.json", "--save", "other.h5", "--seed", "6")
        self.assertNotEqual(self.digest("other.h5"), expected)

    def test_a_pipe_is_read_by_rank_0_alone(self):
        for ranks in (None, 3):
            with open(self.folder / "masked.bl") as stream:
                self.train(ranks, "--save", f"{ranks}.h5", stdin=stream)
        self.assertEqual(self.digest("None.h5"), self.digest("3.h5"))

    def test_an_error_of_all_ranks_is_said_once(self):
        said = self.train(9, "--in", "masked.bl", "--save", "m.h5", expect=2)
        self.assertEqual(said.count("bl-train: error:"), 1, said)
        self.assertIn("9 ranks are too many: a batch is worked on in 8 lanes, so start at most 8 ranks", said)
        said = self.train(2, "--in", "masked.bl", "--save", "m.h5", "--bogus", expect=2)
        self.assertEqual(said.count("unknown option '--bogus'"), 1, said)
        self.assertFalse((self.folder / "m.h5").exists())

    def test_a_killed_rank_ends_the_job_and_another_number_of_ranks_resumes(self):
        options = ["--in", "masked.bl", "--epochs", "15", "--checkpoint-every", "4", "--save", "m.h5"]
        self.kill_rank(3, 1, options)
        self.train(2, *options, "--resume", "m.h5.part.h5")
        self.train(None, *options[:-1], "whole.h5")
        self.assertEqual(self.digest("m.h5"), self.digest("whole.h5"))

    def test_sigterm_to_one_rank_stops_all_after_a_checkpoint(self):
        options = ["--in", "masked.bl", "--epochs", "400", "--checkpoint-every", "5", "--save", "m.h5"]
        process, pids = self.start([*mpirun(2), program("bl-train"), *MODEL, *options])
        os.kill(pids[1], signal.SIGTERM)
        said, _ = self.end_of(process, 10)
        self.assertEqual(process.returncode, 128 + signal.SIGTERM)
        self.assertIn("go on with --resume m.h5.part.h5", said)

    def test_a_single_process_does_not_load_what_only_ranks_need(self):
        # The environment of a batch script of Slurm is not that of a rank.
        environment = {**os.environ, "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
        done = subprocess.run([program("bl-train"), *MODEL, "--in", "masked.bl", "--epochs", "1", "--save", "m.h5"], cwd=self.folder, env=environment,
                              capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        # A launcher that MPI knows nothing of: each process would take itself for the only one.
        environment = {**os.environ, "PMI_SIZE": "4", "PMI_RANK": "0"}
        done = subprocess.run([program("bl-train"), *MODEL, "--in", "masked.bl", "--save", "n.h5"], cwd=self.folder, env={**ENVIRONMENT, **environment},
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("started 4 processes but MPI joins 1", done.stderr)
        self.assertFalse(Path(self.folder / "n.h5").exists())


if __name__ == "__main__":
    unittest.main()
