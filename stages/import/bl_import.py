"""Started by the launcher bl-import: bl_import.py FOLDER_OF_BEAMLINE VERSION ARGUMENTS…"""
import os
import sys

if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # --threads says how many there are
    sys.path.insert(0, sys.argv[1])
    from beamline_import.command import main

    sys.exit(main(sys.argv[3:], sys.argv[2]))
