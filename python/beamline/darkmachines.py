"""objects/1 streams as text of the Dark Machines challenge (arXiv:2105.14027): one line an event,

    event ID; process ID; weight; MET; METphi; obj1,E1,pt1,eta1,phi1; obj2,…;

in MeV, with obj one of j b e- e+ m- m+ g. b-tags of 0.5 and above are written as b; masses survive through E.

    python3 -m beamline.darkmachines --out events.csv events.bl more.bl:200     (200: only the first 200 events)
"""
import argparse
import os
import sys

import numpy as np

from . import Error, WriteError, read

_NAMES = {(2, -1): "e-", (2, 1): "e+", (3, -1): "m-", (3, 1): "m+", (4, 0): "g"}


def lines(batch):
    """One line per event of an objects/1 batch. Taus have no place in the format: they are left out."""
    pt, eta, mass = (batch[k].astype(np.float64) for k in ("pt", "eta", "mass"))
    energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    offsets, processes = batch.offsets("pt"), batch.text("process")
    for i in range(batch.events):
        fields = [str(batch["event_id"][i]), processes[i], f"{batch['weight'][i]:.6g}", f"{batch['met'][i] * 1e3:.6g}", f"{batch['met_phi'][i]:.6g}"]
        for k in range(offsets[i], offsets[i + 1]):
            kind = int(batch["type"][k])
            name = ("b" if batch["btag"][k] >= 0.5 else "j") if kind == 1 else _NAMES.get((kind, int(batch["charge"][k])))
            if name:
                fields.append(f"{name},{energy[k] * 1e3:.6g},{pt[k] * 1e3:.6g},{eta[k]:.6g},{batch['phi'][k]:.6g}")
        yield ";".join(fields) + ";\n"


def export(sources, out, force=False):
    """sources: [(path, events or None)]; out: a path or "-"."""
    if out != "-" and os.path.exists(out) and not force:
        raise WriteError(f"'{out}' exists: choose another name, or give --force to replace it")
    part = out + ".part"
    try:
        file = sys.stdout if out == "-" else open(part, "w")
        try:
            for path, left in sources:
                for batch in read(path):
                    for line in lines(batch):
                        if left == 0:
                            break
                        file.write(line)
                        left = None if left is None else left - 1
                    if left == 0:
                        break
            file.flush()
            if out != "-":
                os.fsync(file.fileno())
                file.close()
                os.replace(part, out)
        except BaseException:
            if out != "-":
                file.close()
                os.unlink(part)
            raise
    except OSError as e:
        raise WriteError(f"cannot write '{out}': {e.strerror}") from None


def main():
    parser = argparse.ArgumentParser(prog="beamline.darkmachines", description="objects/1 streams as Dark Machines CSV")
    parser.add_argument("sources", nargs="+", help="streams, each with :N for its first N events")
    parser.add_argument("--out", default="-")
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args()
    sources = []
    for word in options.sources:
        path, colon, number = word.rpartition(":")
        sources.append((path, int(number)) if colon and number.isdecimal() else (word, None))
    try:
        export(sources, options.out, options.force)
    except Error as e:
        print(f"beamline.darkmachines: error: {e}", file=sys.stderr)
        return e.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
