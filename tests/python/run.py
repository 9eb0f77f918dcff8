"""Runs one file of unittests as ctest wants it: exit code 0 passed, 77 everything skipped, 1 failed."""
import importlib.util
import os
import sys
import unittest
from pathlib import Path

path = Path(sys.argv[1]).resolve()
source = Path(os.environ.setdefault("BEAMLINE_SOURCE", str(path.parents[2])))
sys.path[:0] = [str(source / "python"), str(path.parent)]
try:
    import msgpack  # noqa: F401
    import numpy  # noqa: F401
except ImportError as e:
    print(f"skipped: {sys.executable} lacks a module ({e}); apt-get install python3-numpy python3-msgpack")
    sys.exit(77)
spec = importlib.util.spec_from_file_location(path.stem, path)
module = importlib.util.module_from_spec(spec)
sys.modules[path.stem] = module
spec.loader.exec_module(module)
result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(unittest.defaultTestLoader.loadTestsFromModule(module))
if not result.wasSuccessful():
    sys.exit(1)
sys.exit(77 if result.testsRun == len(result.skipped) else 0)
