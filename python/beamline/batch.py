"""A batch of events: named numpy columns whose dimensions have names.

"event" is the number of events. A dimension X is ragged when the batch holds a column "X_offsets" (u32, dims
("event+1",)): the entries of event i are [X_offsets[i], X_offsets[i+1]). A dimension that is a number ("4") has that
fixed length. Text per event is a ragged u8 column: "process" with dims ("process_char",).
"""
import numpy as np

from .errors import InputError
from .xxh3 import hash64, hash_rows

# dtypes of a column, in the order that the digest counts them
DTYPES = {"i8": "<i1", "u8": "<u1", "i16": "<i2", "u16": "<u2", "i32": "<i4", "u32": "<u4", "i64": "<i8", "u64": "<u8",
          "f32": "<f4", "f64": "<f8"}
NAMES = {np.dtype(numpy): name for name, numpy in DTYPES.items()}


def is_offsets(dims):
    return tuple(dims) == ("event+1",)


class Batch(dict):
    """Column name -> numpy array (more than one dimension is kept as the array's shape). `dims`: name -> tuple of the
    names of its dimensions; `events`: number of events; `seq`: number of the batch in its stream."""

    def __init__(self, columns=(), dims=None, events=0, seq=0):
        super().__init__(columns)
        self.dims = {} if dims is None else dict(dims)
        self.events, self.seq = events, seq

    def offsets(self, column):
        """Offsets of a ragged column: int64 [events + 1]."""
        name = self.dims[column][0] + "_offsets"
        if name not in self:
            raise InputError(f"column '{column}' is not ragged: there is no column '{name}'")
        return self[name].astype(np.int64)

    def counts(self, column):
        """Entries of each event in a ragged column."""
        return np.diff(self.offsets(column))

    def event(self, column, i):
        """The values of event i."""
        if self.dims[column][0] == "event":
            return self[column][i]
        offsets = self.offsets(column)
        return self[column][offsets[i]:offsets[i + 1]]

    def padded(self, column, length=None, fill=0):
        """(values [events, length], mask [events, length]); see pad()."""
        return pad(self[column], self.offsets(column), length, fill)

    def text(self, column):
        """One str per event of a text column."""
        offsets, raw = self.offsets(column), self[column].tobytes()
        return [raw[a:b].decode("utf-8", "replace") for a, b in zip(offsets[:-1], offsets[1:])]


def pad(values, offsets, length=None, fill=0):
    """Ragged to padded. values [entries, …] and offsets [events + 1] -> (padded [events, length, …], mask [events,
    length]). `length` defaults to the longest event; longer events are cut, their first entries stay."""
    offsets = np.asarray(offsets, np.int64)
    counts = np.diff(offsets)
    length = int(counts.max(initial=0)) if length is None else length
    mask = np.arange(length) < counts[:, None]
    padded = np.full((len(counts), length) + np.shape(values)[1:], fill, np.asarray(values).dtype)
    index = offsets[:-1, None] + np.arange(length)
    padded[mask] = np.asarray(values)[index[mask]]
    return padded, mask


def unpad(padded, mask):
    """Padded to ragged: (values [entries, …], offsets u32 [events + 1])."""
    mask = np.asarray(mask, bool)
    offsets = np.zeros(len(mask) + 1, np.uint32)
    np.cumsum(mask.sum(axis=1), out=offsets[1:])
    return np.asarray(padded)[mask], offsets


def text_column(name, texts):
    """The two columns of one text per event: {name: letters, name_char_offsets: offsets}."""
    raw = [t.encode() for t in texts]
    offsets = np.zeros(len(raw) + 1, np.uint32)
    np.cumsum([len(r) for r in raw], out=offsets[1:])
    return {name: np.frombuffer(b"".join(raw), np.uint8), name + "_char_offsets": offsets}


def expected_shape(batch, dims):
    """Shape that a column must have; raises InputError for an unknown dimension."""
    shape = []
    for dim in dims:
        if dim.isdecimal():
            shape.append(int(dim))
        elif dim == "event":
            shape.append(batch.events)
        elif dim == "event+1":
            shape.append(batch.events + 1)
        elif dim + "_offsets" in batch:
            offsets = batch[dim + "_offsets"]
            shape.append(int(offsets[-1]) if len(offsets) else 0)
        else:
            raise InputError(f"dimension '{dim}' is not known: there is no column '{dim}_offsets'")
    return tuple(shape)


def check_structure(batch):
    """Every column's shape agrees with its dims; offsets are u32, start at zero and never fall. Raises InputError."""
    for name, dims in batch.dims.items():
        if not is_offsets(dims):
            continue
        offsets = batch[name]
        if offsets.dtype != np.dtype("<u4"):
            raise InputError(f"column '{name}' holds {NAMES.get(offsets.dtype, offsets.dtype)}, expected u32")
        if len(offsets) != batch.events + 1:
            raise InputError(f"column '{name}' has {len(offsets)} values, expected {batch.events + 1} (one more than the {batch.events} events)")
        if offsets[0] != 0:
            raise InputError(f"column '{name}', entry 0: {offsets[0]} is not 0, where offsets start")
        falls = np.flatnonzero(offsets[1:] < offsets[:-1])
        if len(falls):
            i = int(falls[0]) + 1
            raise InputError(f"column '{name}', entry {i}: {offsets[i]} is below {offsets[i - 1]}, the one before")
    for name, dims in batch.dims.items():
        shape = expected_shape(batch, dims)
        if batch[name].shape != shape:
            raise InputError(f"column '{name}' has shape {batch[name].shape}, expected {shape}")


def select(batch, keep):
    """The events named by `keep` (indices or a mask), in that order: every column, ragged or not."""
    keep = np.asarray(keep)
    keep = np.flatnonzero(keep) if keep.dtype == bool else keep.astype(np.int64)
    out = Batch(dims=batch.dims, events=len(keep), seq=batch.seq)
    for name, values in batch.items():
        first = batch.dims[name][0] if batch.dims[name] else None
        if is_offsets(batch.dims[name]):
            counts = np.diff(values.astype(np.int64))[keep]
            out[name] = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
        elif first == "event":
            out[name] = values[keep]
        elif first is not None and first + "_offsets" in batch:
            offsets = batch[first + "_offsets"].astype(np.int64)
            starts, counts = offsets[:-1][keep], np.diff(offsets)[keep]
            ends = np.cumsum(counts)
            index = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + counts, counts)
            out[name] = values[index]
        else:
            out[name] = values  # not per event: travels as it is
    return out


def concat(batches):
    """Joins batches of the same columns; seq is that of the first."""
    first = batches[0]
    out = Batch(dims=first.dims, events=sum(b.events for b in batches), seq=first.seq)
    for b in batches[1:]:
        if b.dims != first.dims:
            raise InputError(f"batches with the columns {', '.join(first)} and {', '.join(b)} cannot be joined")
    for name, dims in first.dims.items():
        if is_offsets(dims):
            counts = np.concatenate([np.diff(b[name].astype(np.int64)) for b in batches])
            out[name] = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
        else:
            out[name] = np.concatenate([b[name] for b in batches])
    return out


class Digest:
    """Order-free digest of what the events hold, the one of `bl-show --digest`: the same whatever the batching, the
    order of events or columns, and the transport."""

    def __init__(self):
        self.events, self.sum, self.mix = 0, 0, 0

    def add(self, batch):
        codes = list(DTYPES)
        hashes = np.full(batch.events, 0x6265616D6C696E65, np.uint64)
        for name in sorted(batch, key=str.encode):
            dims = batch.dims[name]
            if not dims or is_offsets(dims):  # offsets depend on the batching
                continue
            values = np.ascontiguousarray(batch[name])
            salt = np.uint64(hash64(name.encode(), codes.index(NAMES[values.dtype])))
            row = values.dtype.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))
            raw = values.reshape(-1).view(np.uint8)
            if dims[0] == "event":
                hashes = hash_rows(raw.reshape(batch.events, row), hashes ^ salt)
            elif dims[0] + "_offsets" in batch:
                offsets = batch[dims[0] + "_offsets"].astype(np.int64) * row
                counts = np.diff(offsets)
                for count in np.unique(counts):  # events of one length are hashed together
                    which = np.flatnonzero(counts == count)
                    rows = raw[offsets[which][:, None] + np.arange(count)] if count else np.empty((len(which), 0), np.uint8)
                    hashes[which] = hash_rows(rows, hashes[which] ^ salt)
        self.events += batch.events
        self.sum = (self.sum + int(hashes.sum(dtype=np.uint64))) % 2**64
        again = hash_rows(hashes.view(np.uint8).reshape(-1, 8), 0)
        self.mix = (self.mix + int(again.sum(dtype=np.uint64))) % 2**64

    def text(self):
        return f"{self.sum:016x}{self.mix:016x}"
