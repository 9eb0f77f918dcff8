"""What a batch must look like, read from the schema files that the C++ programs embed (schemas/NAME.VERSION.toml).

The files are looked for in $BEAMLINE_SCHEMAS, then in schemas/ beside this module.
"""
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .batch import DTYPES, NAMES, Batch, check_structure
from .errors import InputError, UsageError
from .xxh3 import hash64


@dataclass
class Rule:
    """What one column (or a family of columns, "feature_*") must look like."""
    name: str
    dtype: str
    dims: tuple
    unit: str = ""
    doc: str = ""
    min: float | None = None
    max: float | None = None
    finite: bool = False
    optional: bool = False

    @property
    def family(self):
        return self.name.endswith("*")


@dataclass
class Schema:
    name: str
    version: int
    hash: int
    doc: str = ""
    columns: dict = field(default_factory=dict)  # name -> Rule

    @property
    def id(self):
        return f"{self.name}/{self.version}"

    def rule(self, column):
        """The rule of a column, or None; exact names come before families."""
        if column in self.columns and not column.endswith("*"):
            return self.columns[column]
        for rule in self.columns.values():
            if rule.family and column.startswith(rule.name[:-1]) and len(column) >= len(rule.name):
                return rule
        return None

    def batch(self, columns, seq=0):
        """A Batch from {name: array}: dimensions and dtypes are those of the schema; checked. An array of another dtype
        is converted when no value is lost (f64 to f32 is rounded). Raises InputError."""
        columns = {name: np.asarray(values) for name, values in columns.items()}
        batch = Batch(seq=seq)
        events = None
        for name, values in columns.items():
            rule = self.rule(name)
            if rule is None:
                raise InputError(f"column '{name}' is not part of {self.id}")
            batch[name], batch.dims[name] = _convert(name, values, rule.dtype), tuple(rule.dims)
            if events is None and rule.dims and rule.dims[0] in ("event", "event+1"):
                events = len(values) - (rule.dims[0] == "event+1")
        batch.events = events or 0
        self.check(batch)
        return batch

    def violation(self, batch):
        """The first violation in words, or None. Assumes check_structure()."""
        for rule in self.columns.values():
            if not rule.optional and not rule.family and rule.name not in batch:
                return f"column '{rule.name}' of {self.id} is missing"
        for name, values in batch.items():
            rule = self.rule(name)
            if rule is None:
                return f"column '{name}' is not part of {self.id}"
            if NAMES.get(values.dtype) != rule.dtype:
                return f"column '{name}' holds {NAMES.get(values.dtype, values.dtype)}, {self.id} says {rule.dtype}"
            if tuple(batch.dims[name]) != rule.dims:
                return f"column '{name}' has dims {list(batch.dims[name])}, {self.id} says {list(rule.dims)}"
            bad = _out_of_range(rule, values)
            if bad:
                return f"column '{name}', {bad}"
        return None

    def check(self, batch, where=""):
        """check_structure() and violation(); raises InputError."""
        try:
            check_structure(batch)
            bad = self.violation(batch)
            if bad:
                raise InputError(bad)
        except InputError as e:
            raise InputError(f"{where}: batch {batch.seq}: {e}" if where else str(e)) from None


def _convert(name, values, dtype):
    wanted = np.dtype(DTYPES[dtype])
    if values.dtype == wanted:
        return values
    if values.dtype.kind not in "biuf" or (values.dtype.kind == "f") > (wanted.kind == "f"):
        raise InputError(f"column '{name}' holds {values.dtype}, expected {dtype}")
    with np.errstate(over="ignore"):
        converted = values.astype(wanted)
    if wanted.kind != "f" and not np.array_equal(converted, values):
        i = int(np.flatnonzero(converted.ravel() != values.ravel())[0])
        raise InputError(f"column '{name}', entry {i}: {values.ravel()[i]} does not fit in {dtype}")
    return converted


def _out_of_range(rule, values):
    floating = values.dtype.kind == "f"
    if values.size == 0 or (rule.min is None and rule.max is None and not (floating and rule.finite)):
        return None
    limits = np.finfo(values.dtype) if floating else np.iinfo(values.dtype)
    low = values.dtype.type(rule.min if rule.min is not None else limits.min)
    high = values.dtype.type(rule.max if rule.max is not None else limits.max)
    flat = values.ravel()
    good = (flat >= low) & (flat <= high)  # NaN fails every comparison
    if good.all():
        return None
    i = int(np.flatnonzero(~good)[0])
    unit = f" {rule.unit}" if rule.unit else ""
    if floating and not np.isfinite(flat[i]):
        return f"entry {i}: {flat[i]} is not a finite number"
    return f"entry {i}: {flat[i]}{unit} is " + (f"below {low}" if flat[i] < low else f"above {high}")


def parse(text, where):
    """text: bytes of a schema file."""
    table = tomllib.loads(text.decode())
    schema = Schema(table["name"], table["version"], hash64(text), table.get("doc", ""))
    for name, column in table["column"].items():
        column = dict(column)
        if column.get("dtype") not in DTYPES:
            raise UsageError(f"{where}: column '{name}' has no dtype, or one that does not exist")
        schema.columns[name] = Rule(name=name, dims=tuple(column.pop("dims")), **column)
    return schema


def folders():
    named = os.environ.get("BEAMLINE_SCHEMAS")
    return ([Path(named)] if named else []) + [Path(__file__).resolve().parent / "schemas"]


def load(schema):
    """The schema of an id such as "objects/1"; raises UsageError when no file defines it."""
    name, _, version = schema.partition("/")
    for folder in folders():
        path = folder / f"{name}.{version}.toml"
        if path.is_file():
            return parse(path.read_bytes(), str(path))
    known = sorted({p.stem.replace(".", "/") for f in folders() if f.is_dir() for p in f.glob("*.*.toml")})
    raise UsageError(f"unknown schema '{schema}'; the schema files here are {', '.join(known) or 'not found: set BEAMLINE_SCHEMAS to their folder'}")
