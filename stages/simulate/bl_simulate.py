"""Started by the launcher bl-simulate: bl_simulate.py FOLDER_OF_BEAMLINE VERSION ARGUMENTS…"""
import os
import sys

if __name__ == "__main__":
    # Worker processes start from this file as well; they need the same paths.
    os.environ["PYTHONPATH"] = os.pathsep.join([sys.argv[1], os.path.dirname(os.path.abspath(__file__))] + [p for p in [os.environ.get("PYTHONPATH")] if p])
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    sys.path.insert(0, sys.argv[1])
    from beamline_simulate.command import main

    sys.exit(main(sys.argv[3:], sys.argv[2]))
