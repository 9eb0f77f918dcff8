"""ROOT and Parquet files as named columns, read piece by piece.

A column is Flat: one number an entry, or a list of numbers an entry. What is nested deeper, text and objects are not
columns, but are known by name, so that a message can say what there is.
"""
import concurrent.futures
import os

import numpy as np

from beamline import InputError, UsageError


class Flat:
    """values: one dimension. offsets: int64 [entries + 1], the list of entry i is values[offsets[i]:offsets[i + 1]]; None:
    one value an entry."""

    def __init__(self, values, offsets=None):
        self.values, self.offsets = values, offsets

    @property
    def counts(self):
        return np.diff(self.offsets)

    def __len__(self):
        return len(self.values) if self.offsets is None else len(self.offsets) - 1


def open_source(path, tree, threads):
    """The file's kind is found from its first bytes. Raises InputError."""
    try:
        if os.path.isdir(path):
            raise InputError(f"cannot read '{path}': it is a folder, name a file in it")
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError as e:
        raise InputError(f"cannot open '{path}': {e.strerror}") from None
    if not head:
        raise InputError(f"'{path}' is empty")
    if head[:4] == b"root":
        return RootSource(path, tree, threads)
    if head[:4] == b"PAR1":
        if tree:
            raise UsageError(f"--tree is for ROOT files, '{path}' is a Parquet file")
        return ParquetSource(path, threads)
    other = "an HDF5 file" if head == b"\x89HDF\r\n\x1a\n" else "a stream of beamline" if head[:4] == b"BLF1" else None
    if other:
        raise InputError(f"'{path}' is {other}: bl-preprocess --in '{path}' reads it")
    raise InputError(f"'{path}' is neither a ROOT nor a Parquet file (it starts with {head!r})")


def reason(error):
    """The first line of what a library said, without what it adds for programmers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{lines[0][:200]}" if lines else type(error).__name__


class ParquetSource:
    """Lists, lists of records ("NAME.field") and records of lists or numbers; awkward arrays are written so."""
    kind, tree = "parquet", ""

    def __init__(self, path, threads):
        import pyarrow
        import pyarrow.parquet
        self.path, self._pa, self._threads = path, pyarrow, threads
        try:
            self._file = pyarrow.parquet.ParquetFile(path, page_checksum_verification=True)
            self.entries = self._file.metadata.num_rows
            fields = list(self._file.schema_arrow)
        except (pyarrow.ArrowException, OSError, ValueError) as e:
            raise InputError(f"'{path}' cannot be read as Parquet: {reason(e)}") from None
        self.names, self.others, self._where = [], [], {}
        for field in fields:
            self._add(field.name, field.type, (field.name,))

    def _add(self, name, kind, where):
        """Leaves below a field: name -> the path to it."""
        types = self._pa.types
        kind = getattr(kind, "storage_type", kind)  # extension types
        item = getattr(kind.value_type, "storage_type", kind.value_type) if self._is_list(kind) else None
        if types.is_struct(kind):
            for child in kind:
                self._add(f"{name}.{child.name}" if name else child.name, child.type, (*where, child.name))
        elif item is not None and types.is_struct(item) and not any(part is None for part in where):
            for child in item:
                self._add(f"{name}.{child.name}" if name else child.name, child.type, (*where, None, child.name))
        elif self._is_number(item if item is not None else kind) and not (item is not None and None in where):
            self.names.append(name)
            self._where[name] = where
        else:
            self.others.append(name)

    def _is_list(self, kind):
        types = self._pa.types
        return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)

    def _is_number(self, kind):
        types = self._pa.types
        return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)

    def pieces(self, names, first, last, step):
        """Yields (number of the first entry, {name: Flat}) for entries [first, last), at most `step` at a time."""
        fields = sorted({self._where[n][0] for n in names})
        groups, start, skip = [], 0, 0
        for g in range(self._file.metadata.num_row_groups):
            rows = self._file.metadata.row_group(g).num_rows
            if start + rows > first and start < last:
                skip = first - start if not groups else skip
                groups.append(g)
            start += rows
        at = first
        try:
            for batch in self._file.iter_batches(batch_size=step, row_groups=groups, columns=fields, use_threads=self._threads > 1):
                if skip >= len(batch):
                    skip -= len(batch)
                    continue
                batch = batch.slice(skip, min(len(batch) - skip, last - at))
                skip = 0
                if len(batch):
                    yield at, {n: self._flat(n, batch, at) for n in names}
                    at += len(batch)
                if at >= last:
                    return
        except (self._pa.ArrowException, OSError, ValueError) as e:
            raise InputError(f"'{self.path}', entry {at}: cannot be read: {reason(e)}") from None
        if at < last:
            raise InputError(f"'{self.path}' says that it has {self.entries} entries, and ends after {at}")

    def _flat(self, name, batch, first):
        where = self._where[name]
        array, offsets = batch.column(batch.schema.get_field_index(where[0])), None
        for part in where[1:]:
            array = getattr(array, "storage", array)
            if part is None:
                array, offsets = self._opened(array, name, first)
            else:
                array = self._field(array, part)
        array = getattr(array, "storage", array)
        if self._is_list(array.type):
            array, offsets = self._opened(array, name, first)
        array = getattr(array, "storage", array)
        if array.null_count:
            if not self._pa.types.is_floating(array.type):
                i = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
                i = i if offsets is None else int(np.searchsorted(offsets, i, "right")) - 1
                raise InputError(f"'{self.path}', entry {first + i}, {name}: there is no value (null)")
            array = array.fill_null(float("nan"))  # found where the value is needed
        return Flat(array.to_numpy(zero_copy_only=False), offsets)

    def _opened(self, array, name, first):
        if array.null_count:
            i = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
            raise InputError(f"'{self.path}', entry {first + i}, {name}: there is no list (null)")
        if self._pa.types.is_fixed_size_list(array.type):
            return array.flatten(), np.arange(len(array) + 1, dtype=np.int64) * array.type.list_size
        offsets = array.offsets.to_numpy().astype(np.int64)
        return array.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0])), offsets - offsets[0]

    def _field(self, array, name):
        if array.null_count:
            raise InputError(f"'{self.path}': there are records without a value (null) around '{name}'")
        return array.flatten()[[f.name for f in array.type].index(name)]

    def close(self):
        self._file.close()


class RootSource:
    """Branches of one tree: numbers, arrays and vectors of numbers."""
    kind = "root"

    def __init__(self, path, tree, threads):
        import uproot
        self.path = path
        self._executor = concurrent.futures.ThreadPoolExecutor(threads) if threads > 1 else None
        try:
            self._file = uproot.open(path)
            kinds = {name.partition(";")[0]: kind for name, kind in self._file.classnames(recursive=True).items()}
            trees = [name for name, kind in kinds.items() if kind in ("TTree", "TNtuple", "ROOT::RNTuple", "ROOT::Experimental::RNTuple")]
            self.tree = self._choose(tree, trees)
            self._tree = self._file[self.tree]
            self.entries = int(self._tree.num_entries)
        except InputError:
            raise
        except Exception as e:  # whatever a damaged file makes uproot stumble over, here and below
            raise InputError(f"'{path}' cannot be read as ROOT: {reason(e)}") from None
        self.names, self.others = [], []
        for name in self._tree.keys():
            leaf = name.rpartition("/")[2]
            (self.names if self._is_numbers(name) else self.others).append(leaf)
        self._full = {name.rpartition("/")[2]: name for name in self._tree.keys()}

    def _choose(self, wanted, trees):
        if not trees:
            raise InputError(f"'{self.path}' holds no tree")
        if wanted:
            if wanted not in trees:
                raise InputError(f"'{self.path}' has no tree '{wanted}'; there are {', '.join(trees)}")
            return wanted
        if len(trees) == 1:
            return trees[0]
        for usual in ("tree", "Events", "Delphes"):
            if usual in trees:
                return usual
        raise InputError(f"'{self.path}' holds several trees, {', '.join(trees)}: name one by --tree")

    def _is_numbers(self, name):
        """Numbers, or lists of numbers, an entry."""
        kind = self._tree[name].typename
        for before, after in (("std::vector<", ">"), ("vector<", ">"), ("ROOT::VecOps::RVec<", ">"), ("", "[]")):
            if kind.startswith(before) and kind.endswith(after) and len(kind) > len(before) + len(after):
                kind = kind[len(before):len(kind) - len(after)]
                break
        return kind.partition("[")[0] in _NUMBERS and "][" not in kind

    def pieces(self, names, first, last, step):
        """Yields (number of the first entry, {name: Flat}) for entries [first, last), at most `step` at a time."""
        for start in range(first, last, step):
            stop = min(start + step, last)
            out = {}
            for name in names:
                try:
                    options = {"decompression_executor": self._executor} if self._executor else {}
                    array = self._tree[self._full[name]].array(entry_start=start, entry_stop=stop, library="ak", **options)
                    out[name] = _flat(array)
                except Exception as e:
                    raise InputError(f"'{self.path}', entries {start} to {stop}: branch '{name}' cannot be read: {reason(e)}") from None
            yield start, out

    def references(self, name, first, last):
        """A branch that holds a TRefArray for each object of an entry. Returns the unique ids referred to, flat; offsets of the
        references of each object; offsets of the objects of each entry."""
        try:
            entries = self._tree[self._full[name]].array(entry_start=first, entry_stop=last, library="np")
            objects = [[np.asarray(list(refs), np.int64) for refs in entry] for entry in entries]
        except Exception as e:
            raise InputError(f"'{self.path}', entries {first} to {last}: branch '{name}' cannot be read: {reason(e)}") from None
        lists = [refs for entry in objects for refs in entry]
        inner = np.concatenate([[0], np.cumsum([len(refs) for refs in lists])]).astype(np.int64)
        outer = np.concatenate([[0], np.cumsum([len(entry) for entry in objects])]).astype(np.int64)
        return np.concatenate([*lists, np.empty(0, np.int64)]), inner, outer

    def close(self):
        if self._executor:
            self._executor.shutdown()
        self._file.close()


_NUMBERS = {"bool", "char", "float", "double", "int", "unsigned int", "short", "unsigned short", "unsigned char", "long", "unsigned long",
            "int8_t", "int16_t", "int32_t", "int64_t", "uint8_t", "uint16_t", "uint32_t", "uint64_t", "Float16_t", "Double32_t",
            "std::int8_t", "std::int16_t", "std::int32_t", "std::int64_t", "std::uint8_t", "std::uint16_t", "std::uint32_t", "std::uint64_t"}


def _flat(array):
    """An awkward array of numbers or of lists of numbers."""
    import awkward as ak
    if array.ndim == 1:
        return Flat(np.asarray(ak.to_numpy(array)))
    if array.ndim != 2:
        raise ValueError(f"it is nested {array.ndim - 1} deep, one level is read")
    offsets = np.concatenate([[0], np.cumsum(ak.to_numpy(ak.num(array, axis=1)), dtype=np.int64)])
    return Flat(np.asarray(ak.to_numpy(ak.flatten(array, axis=1))), offsets)
