"""Streams of event batches as numpy arrays: read() and Writer. docs/format.md describes the bytes.

A stream is HELLO, BATCH…, END; an ABORT may stand in place of END and says why. A stream that stops without either is
an error (UpstreamError), never an end.
"""
import fcntl
import os
import stat
import struct
import sys

import msgpack
import numpy as np

from .batch import DTYPES, NAMES, Batch, check_structure
from .errors import DownstreamError, Error, InputError, UpstreamError, UsageError, WriteError
from .schema import Schema, load
from .xxh3 import hash64

MAGIC, VERSION, ALIGN, MAX_BODY = b"BLF1", 1, 64, 256 << 20
HELLO, BATCH, END, ABORT = 1, 2, 3, 4
KINDS = {HELLO: "HELLO", BATCH: "BATCH", END: "END", ABORT: "ABORT"}
# magic, version, kind, flags, stream, seq, length, body hash, schema hash, events, reserved; then the header's own hash
_HEADER = struct.Struct("<4sBBHQQQQQII")
_MAX_VALUE = 16 << 20  # bytes of a HELLO
_PIPE = 1 << 20        # capacity asked of a pipe: the usual 64 KiB costs a factor of eight


def end_term(seq, body_hash):
    """What a BATCH adds to the digest of END."""
    return hash64(body_hash.to_bytes(8, "little"), seq)


def _unpack(body, where, what):
    try:
        n = len(body)
        return msgpack.unpackb(body, raw=False, strict_map_key=True, max_str_len=n, max_bin_len=n, max_array_len=n, max_map_len=n, max_ext_len=0)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as e:
        raise InputError(f"{where}: {what} cannot be read: {e}") from None


def encode_batch(batch):
    """Body of a BATCH frame; every column starts on a multiple of 64 bytes."""
    packer = msgpack.Packer(use_bin_type=True)
    parts, size = [], 0

    def put(part):
        nonlocal size
        parts.append(part)
        size += len(part)

    put(packer.pack_map_header(2) + packer.pack("events") + packer.pack(batch.events) + packer.pack("columns") + packer.pack_array_header(len(batch)))
    for name, values in batch.items():
        raw = np.ascontiguousarray(values).tobytes()
        put(packer.pack_array_header(5) + packer.pack(name) + packer.pack(NAMES[values.dtype]) + packer.pack(list(batch.dims[name])))
        header = struct.pack(">BB", 0xC4, len(raw)) if len(raw) < 1 << 8 else struct.pack(">BH", 0xC5, len(raw)) if len(raw) < 1 << 16 else struct.pack(">BI", 0xC6, len(raw))
        put(packer.pack(b"\0" * (-(size + 2 + len(header)) % ALIGN)))
        put(header)
        put(raw)
    body = b"".join(parts)
    if len(body) > MAX_BODY:
        raise Error(f"batch {batch.seq} has {len(body)} bytes, above the limit of {MAX_BODY}: write smaller batches")
    return body


def decode_batch(body, seq, where):
    """The Batch in a body; its structure is checked. Arrays are read-only views of the body's copy."""
    what = f"batch {seq}"
    value = _unpack(body, where, what)
    if not isinstance(value, dict) or set(value) != {"events", "columns"} or not isinstance(value["events"], int) or not isinstance(value["columns"], list):
        raise InputError(f"{where}: {what} cannot be read: it is not {{events, columns}}")
    batch = Batch(events=value["events"], seq=seq)
    for column in value["columns"]:
        try:
            name, dtype, dims, _, raw = column
            values = np.frombuffer(raw, DTYPES[dtype])
            dims = tuple(str(d) for d in dims)
        except (TypeError, ValueError, KeyError):
            raise InputError(f"{where}: {what} cannot be read: a column is not [name, dtype, dims, pad, data]") from None
        if name in batch:
            raise InputError(f"{where}: {what} has column '{name}' twice")
        if len(dims) > 1:
            fixed = [int(d) if d.isdecimal() else -1 for d in dims[1:]]
            if -1 in fixed:
                raise InputError(f"{where}: {what}: column '{name}' has dims {list(dims)}: only the first may vary")
            if len(values) % max(1, int(np.prod(fixed))):
                raise InputError(f"{where}: {what}: column '{name}' has {len(values)} values, which do not fill {list(dims)}")
            values = values.reshape(-1, *fixed)
        batch[name], batch.dims[name] = values, dims
    try:
        check_structure(batch)
    except InputError as e:
        raise InputError(f"{where}: {what}: {e}") from None
    return batch


class Hello:
    """The first frame: `schema` (id), `schema_hash`, `meta` (facts about the payload by name), `history` (one entry a
    stage, oldest first)."""

    def __init__(self, schema, schema_hash, meta=None, history=None):
        self.schema, self.schema_hash = schema, schema_hash
        self.meta, self.history = dict(meta or {}), list(history or [])

    def body(self):
        return msgpack.packb({"schema": self.schema, "schema_hash": self.schema_hash, "meta": self.meta, "history": self.history}, use_bin_type=True)


class Stream:
    """A stream being read: iterate for its batches. Every one has been checked: checksums, structure and, when
    `check` is true, the schema. `hello` is the first frame, `schema` the Schema that it names."""

    def __init__(self, file, name, check=True, close=False):
        self._file, self._close, self._check = file, close, check
        self.name, self.where = name, name
        self._batches, self._events, self._digest, self._done = 0, 0, 0, False
        header, body = self._frame()
        if header["kind"] == ABORT:
            self._aborted(body)
        if header["kind"] != HELLO:
            raise InputError(f"{name}: the stream does not start with HELLO")
        if header["length"] > _MAX_VALUE:
            raise InputError(f"{name}: HELLO of {header['length']} bytes is above the limit of {_MAX_VALUE}")
        hello = _unpack(body, name, "HELLO")
        if not isinstance(hello, dict) or not isinstance(hello.get("schema"), str) or not isinstance(hello.get("schema_hash"), int):
            raise InputError(f"{name}: HELLO does not name its schema")
        self.hello = Hello(hello["schema"], hello["schema_hash"], hello.get("meta"), hello.get("history"))
        self.id = header["stream"]
        self.schema = self._find_schema() if check else None

    def _find_schema(self):
        try:
            schema = load(self.hello.schema)
        except UsageError as e:
            raise InputError(f"{self.name}: {e}") from None
        if schema.hash != self.hello.schema_hash:
            raise InputError(f"{self.name} was written with another definition of '{schema.id}' (hash {self.hello.schema_hash:016x}, here {schema.hash:016x})")
        return schema

    def _read(self, n, what, at_edge=False):
        try:
            data = self._file.read(n)
            while 0 < len(data) < n:  # an unbuffered pipe gives what it has
                more = self._file.read(n - len(data))
                if not more:
                    break
                data += more
        except OSError as e:
            raise InputError(f"{self.name}: cannot be read: {e.strerror}") from None
        if len(data) < n:
            if at_edge and data and not self._batches and data[:4] != MAGIC:
                raise InputError(f"{self.name}: not a beamline stream ({len(data)} bytes)")
            where = f"after {self._batches} batches" if at_edge and not data else f"inside {what} after {self._batches} batches"
            raise UpstreamError(f"{self.name} stops {where}, without END: its writer failed or the file is cut short")
        return data

    def _frame(self):
        raw = self._read(64, "a frame's header", at_edge=True)
        if raw[:4] != MAGIC:
            raise InputError(f"{self.name}: not a beamline stream (it starts with {raw[:8]!r})")
        if struct.unpack("<Q", raw[56:])[0] != hash64(raw[:56]):
            raise InputError(f"{self.name}: the header of a frame is damaged (its checksum differs)")
        _, version, kind, _, stream, seq, length, body_hash, schema, count, _ = _HEADER.unpack(raw[:56])
        if version != VERSION:
            raise InputError(f"{self.name}: frame version {version} is newer than version {VERSION} of this program: update beamline to read it")
        if kind not in KINDS:
            raise InputError(f"{self.name}: frame of unknown kind {kind}")
        if length > MAX_BODY:
            raise InputError(f"{self.name}: frame of {length} bytes is above the limit of {MAX_BODY}")
        padded = self._read((length + ALIGN - 1) // ALIGN * ALIGN, KINDS[kind]) if length else b""
        body = padded[:length]
        if any(padded[length:]):
            raise InputError(f"{self.name}: the padding after {KINDS[kind]} {seq} is damaged")
        if hash64(body) != body_hash:
            raise InputError(f"{self.name}: {KINDS[kind]} {seq} is damaged (its checksum differs)")
        return {"kind": kind, "stream": stream, "seq": seq, "length": length, "body_hash": body_hash, "schema": schema, "count": count}, body

    def _aborted(self, body):
        raise UpstreamError(f"{self.name}: the program that wrote it gave up: {body.decode('utf-8', 'replace')}")

    def __iter__(self):
        return self

    def __next__(self):
        if self._done:
            raise StopIteration
        header, body = self._frame()
        if header["kind"] == ABORT:
            self._aborted(body)
        if header["kind"] == END:
            end = _unpack(body, self.name, "END")
            mine = {"batches": self._batches, "events": self._events, "digest": self._digest}
            for key, have in mine.items():
                said = end.get(key) if isinstance(end, dict) else None
                if said != have:
                    raise InputError(f"{self.name}: END counts {key} {said}, the stream holds {have}")
            if self._close and self._file.read(1):
                raise InputError(f"{self.name}: bytes follow END; streams are joined by --in a.bl,b.bl, not by cat")
            self._done = True
            self.close()
            raise StopIteration
        if header["kind"] != BATCH or header["stream"] != self.id:
            raise InputError(f"{self.name}: a {KINDS[header['kind']]} of stream {header['stream']:016x} stands inside stream {self.id:016x}")
        batch = decode_batch(body, header["seq"], self.name)
        if batch.events != header["count"]:
            raise InputError(f"{self.name}: batch {batch.seq} holds {batch.events} events, its header says {header['count']}")
        if self.schema:
            self.schema.check(batch, self.name)
        self._batches += 1
        self._events += batch.events
        self._digest = (self._digest + end_term(batch.seq, header["body_hash"])) % 2**64
        return batch

    def close(self):
        if self._close:
            self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def read(source, check=True):
    """Opens a stream: a path, "-" for stdin, or a binary file object. check=False skips the schema (not the checksums)."""
    if hasattr(source, "read"):
        return Stream(source, getattr(source, "name", "stream") if isinstance(getattr(source, "name", None), str) else "stream", check)
    if source == "-":
        return Stream(sys.stdin.buffer, "stdin", check)
    try:
        file = open(source, "rb")
    except OSError as e:
        raise InputError(f"{source}: cannot be opened: {e.strerror}") from None
    try:
        return Stream(file, str(source), check, close=True)
    except BaseException:
        file.close()
        raise


class Writer:
    """Writes a stream to a path, to "-" (stdout), or to a binary file object.

    schema: an id such as "objects/1", or a Schema. write() takes {column: array}; dimensions and dtypes are the schema's.
    Used in a `with` block: END at its end, ABORT when it is left by an exception. A file is written to PATH.part, synced
    and renamed by finish(); without it nothing stands under the final name. An existing file is refused without `force`.
    `wanted` turns false when the reader of a pipe has had enough: stop producing, finish() is then quiet.
    """

    def __init__(self, target, schema, meta=None, history=None, force=False):
        self.schema = schema if isinstance(schema, Schema) else load(schema)
        self.hello = Hello(self.schema.id, self.schema.hash, meta, history)
        self._path, self._part, self._open = None, None, True
        self._batches, self._events, self._digest = 0, 0, 0
        self.wanted = True
        if hasattr(target, "write"):
            self._file, self.name = target, str(getattr(target, "name", "stream"))
        elif target == "-":
            if os.isatty(1):
                raise UsageError("the output is binary and standard output is a terminal: give --out FILE, or pipe it into the next stage")
            if stat.S_ISFIFO(os.fstat(1).st_mode):
                try:
                    fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, _PIPE)
                except OSError:
                    pass  # only speed depends on it
            self._file, self.name = open(1, "wb", buffering=0, closefd=False), "standard output"
        else:
            self._path, self._part, self.name = str(target), str(target) + ".part", str(target)
            if os.path.exists(self._path) and not force:
                raise WriteError(f"'{self._path}' exists: choose another name, or give --force to replace it")
            try:
                self._file = open(self._part, "wb", buffering=0)
            except OSError as e:
                raise WriteError(f"cannot create '{self._part}': {e.strerror}") from None
        body = self.hello.body()
        self.id = hash64(body)
        try:
            self._frame(HELLO, 0, body, schema=self.schema.hash)
        except BaseException:
            self._discard()
            raise

    def _put(self, data):
        view = memoryview(data)
        try:
            while len(view) and self.wanted:
                n = self._file.write(view)  # a raw file may take a part
                view = view[len(view) if n is None else n:]
            self._file.flush()
        except BrokenPipeError:
            if not self._had_enough():
                raise DownstreamError(f"the reader of {self.name} went away after {self._batches} batches") from None
            self.wanted = False
        except OSError as e:
            raise WriteError(f"cannot write {self.name}: {e.strerror}") from None

    def _had_enough(self):
        """A reader that has had enough (bl-head) sets the sticky bit of the pipe before it closes its end."""
        try:
            return bool(os.fstat(self._file.fileno()).st_mode & stat.S_ISVTX)
        except (OSError, AttributeError):
            return False

    def _frame(self, kind, seq, body, schema=0, count=0):
        body_hash = hash64(body)
        header = _HEADER.pack(MAGIC, VERSION, kind, 0, self.id, seq, len(body), body_hash, schema, count, 0)
        self._put(header + struct.pack("<Q", hash64(header)) + body + b"\0" * (-len(body) % ALIGN))
        return body_hash

    def write(self, columns):
        """Adds a batch: {name: array} or a Batch. Its seq is the number of batches before it. Raises InputError when
        the schema is violated."""
        batch = self.schema.batch(columns, seq=self._batches)
        body_hash = self._frame(BATCH, batch.seq, encode_batch(batch), schema=self.schema.hash, count=batch.events)
        self._digest = (self._digest + end_term(batch.seq, body_hash)) % 2**64
        self._batches += 1
        self._events += batch.events

    def finish(self):
        """END; returns when a file is whole, synced and under its final name."""
        body = msgpack.packb({"batches": self._batches, "events": self._events, "digest": self._digest})
        try:
            self._frame(END, self._batches, body)
            if self._path:
                os.fsync(self._file.fileno())
                self._file.close()
                os.replace(self._part, self._path)
                folder = os.open(os.path.dirname(os.path.abspath(self._path)), os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
        except OSError as e:
            self._discard()
            raise WriteError(f"cannot write {self.name}: {e.strerror}") from None
        except Error:
            self._discard()
            raise
        self._open = False

    def abort(self, why):
        """Tells the reader why there will be no END; a file is removed."""
        if not self._open:
            return
        if not self._path:
            try:
                self._frame(ABORT, 0, str(why).encode())
            except Error:
                pass  # the reader is gone: nobody to tell
        self._discard()

    def _discard(self):
        self._open = False
        if self._path:
            try:
                self._file.close()
            except OSError:
                pass  # a full disk refuses the last buffer again
            try:
                os.unlink(self._part)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if kind is None:
            self.finish()
        else:
            self.abort(error if str(error) else kind.__name__)
        return False
