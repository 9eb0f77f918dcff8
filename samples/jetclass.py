"""Makes jetclass.root and jetclass.parquet of the first 100 jets of jets.bl, in the layout of JetClass (arXiv:2202.03772):
jetclass.py [FOLDER, this one]. It needs uproot and pyarrow, which `make -f Makefile.workflow venv-import` installs, and the
folder python in PYTHONPATH.
"""
import sys
from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import uproot

import beamline

CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
FLAGS = {"part_isChargedHadron": 211, "part_isNeutralHadron": 130, "part_isPhoton": 22, "part_isElectron": 11, "part_isMuon": 13}


def tables(jets):
    """(columns of constituents, columns of jets) by JetClass's names, flat."""
    pt, eta, phi, mass = (jets[k].astype(np.float64) for k in ("pt", "eta", "phi", "mass"))
    counts = jets.counts("pt")
    jet_pt, jet_eta, jet_phi, jet_mass = (jets["jet_" + k].astype(np.float64) for k in ("pt", "eta", "phi", "mass"))
    turn = np.where(jet_eta > 0, 1.0, -1.0)
    part = {
        "part_px": pt * np.cos(phi), "part_py": pt * np.sin(phi), "part_pz": pt * np.sinh(eta), "part_energy": np.hypot(pt * np.cosh(eta), mass),
        "part_deta": (eta - np.repeat(jet_eta, counts)) * np.repeat(turn, counts),
        "part_dphi": (phi - np.repeat(jet_phi, counts) + np.pi) % (2 * np.pi) - np.pi,
        "part_d0val": jets["d0"], "part_d0err": jets["d0_error"], "part_dzval": jets["dz"], "part_dzerr": jets["dz_error"],
        "part_charge": jets["charge"], **{name: np.abs(jets["pid"]) == pid for name, pid in FLAGS.items()},
    }
    one = {
        **{f"label_{name}": jets["label"] == i for i, name in enumerate(CLASSES)},
        "jet_pt": jet_pt, "jet_eta": jet_eta, "jet_phi": jet_phi, "jet_energy": np.hypot(jet_pt * np.cosh(jet_eta), jet_mass),
        "jet_nparticles": counts,
    }
    narrow = {np.dtype(np.float64): np.float32, np.dtype(np.int64): np.int32, np.dtype(np.int8): np.int32}
    return tuple({k: np.ascontiguousarray(v, narrow.get(v.dtype, v.dtype)) for k, v in table.items()} for table in (part, one))


def main():
    here = Path(__file__).resolve().parent
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else here
    jets = beamline.concat(list(beamline.read(here / "jets.bl")))
    jets = beamline.select(jets, np.arange(100))
    part, one = tables(jets)
    offsets = jets.offsets("pt")
    with uproot.recreate(folder / "jetclass.root", compression=uproot.LZ4(4)) as file:
        counts = np.diff(offsets)
        tree = file.mktree("tree", {**{k: f"var * {v.dtype}" for k, v in part.items()}, **{k: v.dtype for k, v in one.items()}},
                           counter_name=lambda counted: "npart")
        tree.extend({**{k: ak.unflatten(v, counts) for k, v in part.items()}, **one, "npart": counts.astype(np.int32)})
    lists = {k: pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(v)) for k, v in part.items()}
    pa.parquet.write_table(pa.table({**lists, **one}), folder / "jetclass.parquet", compression="zstd", write_page_checksum=True)


if __name__ == "__main__":
    main()
