"""The code in docs/format.md runs and reads what the documented format says."""
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import beamline
from support import SOURCE, objects

BLOCKS = re.findall(r"```python\n(.*?)```", (SOURCE / "docs" / "format.md").read_text(), re.S)


class Format(unittest.TestCase):
    def run_block(self, block, *arguments, cwd=None):
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        if "import beamline" in block:
            environment["PYTHONPATH"] = str(SOURCE / "python")
        return subprocess.run([sys.executable, "-B", "-c", block, *arguments], capture_output=True, text=True, env=environment, cwd=cwd)

    def test_reader(self):
        self.assertLessEqual(len([line for line in BLOCKS[0].splitlines() if line.strip()]), 30)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "events.bl"
            with beamline.Writer(path, "objects/1") as out:
                out.write(objects(70))
                out.write(objects(30, first=70))
            done = self.run_block(BLOCKS[0], str(path))
            self.assertEqual((done.returncode, done.stdout), (0, "objects/1 100 events\n"), done.stderr)
            path.write_bytes(path.read_bytes()[:-64])
            self.assertNotEqual(self.run_block(BLOCKS[0], str(path)).returncode, 0)

    def test_module_example(self):
        sample = SOURCE / "samples" / "anomaly" / "background.bl"
        if not sample.exists():
            self.skipTest(f"{sample} is not there")
        done = self.run_block(BLOCKS[1], cwd=SOURCE)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("objects/1", done.stdout)


if __name__ == "__main__":
    unittest.main()
