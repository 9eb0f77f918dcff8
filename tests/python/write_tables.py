"""Writes ROOT and Parquet files for test_import.py; run by the interpreter of bl-import's environment, which has uproot and
pyarrow: write_tables.py NUMBERS.npz FOLDER. The numbers are flat columns part_* and jet columns, and "offsets".
"""
import sys
from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uproot


def root(path, lists, flat, trees=("tree",)):
    """lists: {name: awkward array}; every list has its own counter, so that their lengths may differ."""
    with uproot.recreate(path) as file:
        for name in trees:
            tree = file.mktree(name, {**{k: f"var * {ak.type(v).content.content}" for k, v in lists.items()}, **{k: v.dtype for k, v in flat.items()}})
            half = len(next(iter(lists.values()))) // 2
            for part in (slice(0, half), slice(half, None)):  # two baskets
                tree.extend({**{k: v[part] for k, v in lists.items()}, **{k: v[part] for k, v in flat.items()}})


def main():
    numbers, folder = np.load(sys.argv[1]), Path(sys.argv[2])
    offsets = numbers["offsets"]
    counts = np.diff(offsets)
    lists = {k: ak.unflatten(numbers[k], counts) for k in numbers if k.startswith("part_")}
    flat = {k: numbers[k] for k in numbers if not k.startswith("part_") and k != "offsets"}

    def arrow(names=lists):
        return {k: pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(numbers[k])) for k in names}

    jetclass = {k: v for k, v in lists.items() if k not in ("part_pt", "part_etarel", "part_phirel", "part_mass")}
    root(folder / "jets.root", jetclass, flat)
    with uproot.recreate(folder / "rntuple.root") as file:
        file.mkrntuple("tree", {**jetclass, **flat})
    pq.write_table(pa.table({**arrow(jetclass), **flat}), folder / "jets.parquet", row_group_size=7)
    large = {k: pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(numbers[k])) for k in jetclass}
    pq.write_table(pa.table({**large, **flat}), folder / "large.parquet", compression="zstd")

    # a list of records, as awkward arrays are written: constituents relative to the jet, one label
    records = ak.zip({k: lists[k] for k in ("part_pt", "part_etarel", "part_phirel", "part_mass")})
    ak.to_parquet(ak.Array({"part_features": records, "jet_eta": flat["jet_eta"], "jet_phi": flat["jet_phi"], "jet_pt": flat["jet_pt"], "jet_label": flat["kind"]}),
                  folder / "records.parquet")
    ak.to_parquet(records, folder / "bare.parquet")
    pq.write_table(pa.table({**arrow(["part_pt", "part_deta", "part_dphi"]), "jet_pt": flat["jet_pt"], "jet_eta": flat["jet_eta"], "jet_phi": flat["jet_phi"]}),
                   folder / "signed.parquet")
    pq.write_table(pa.table({"x": arrow(["part_pt"])["part_pt"], "y": arrow(["part_etarel"])["part_etarel"], "z": arrow(["part_phirel"])["part_phirel"], "kind": flat["kind"]}),
                   folder / "other.parquet")

    # faults
    shorter = ak.unflatten(numbers["part_py"][:-1], np.append(counts[:-1], counts[-1] - 1))
    root(folder / "lengths.root", {**jetclass, "part_py": shorter}, flat)
    nan = numbers["part_pz"].copy()
    nan[offsets[5] + 2] = np.nan
    root(folder / "nan.root", {**jetclass, "part_pz": ak.unflatten(nan, counts)}, flat)
    pq.write_table(pa.table({**arrow(jetclass), "part_pz": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(nan, from_pandas=True)), **flat}),
                   folder / "null.parquet")
    root(folder / "missing.root", {k: v for k, v in jetclass.items() if k != "part_py"}, flat)
    root(folder / "trees.root", jetclass, flat, trees=("train", "test"))
    root(folder / "both.root", jetclass, {**flat, "label_Hbb": np.ones_like(flat["label_Hbb"])})
    cold = numbers["part_energy"].copy()
    cold[offsets[3]] *= np.float32(0.9)
    root(folder / "cold.root", {**jetclass, "part_energy": ak.unflatten(cold, counts)}, flat)
    whole = (folder / "jets.root").read_bytes()
    (folder / "cut.root").write_bytes(whole[:len(whole) // 2])
    whole = (folder / "jets.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(whole[:len(whole) // 2])
    with uproot.recreate(folder / "empty.root") as file:
        file.mktree("tree", {**{k: f"var * {ak.type(v).content.content}" for k, v in jetclass.items()}, **{k: v.dtype for k, v in flat.items()}})


if __name__ == "__main__":
    main()
