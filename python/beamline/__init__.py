"""beamline streams as numpy arrays; needs msgpack and numpy only.

    import beamline

    for batch in beamline.read("events.bl"):              # a dict of numpy arrays
        pt, mask = batch.padded("pt", 16)                 # [events, 16]
        met, process = batch["met"], batch.text("process")

    with beamline.Writer("out.bl", "objects/1") as out:   # END, fsync and rename at the end of the block
        out.write({"met": met, …, **beamline.text_column("process", names)})
"""
from .batch import Batch, Digest, concat, pad, select, text_column, unpad
from .errors import DownstreamError, Error, InputError, UpstreamError, UsageError, WriteError
from .schema import Schema, load as load_schema
from .stream import Hello, Stream, Writer, read
from .xxh3 import hash64

__version__ = "0.1.0"
__all__ = ["Batch", "Digest", "DownstreamError", "Error", "Hello", "InputError", "Schema", "Stream", "UpstreamError", "UsageError",
           "WriteError", "Writer", "concat", "digest", "hash64", "load_schema", "pad", "read", "select", "text_column", "unpad"]


def digest(source):
    """Digest of a whole stream's payload, as `bl-show --digest` prints it."""
    total = Digest()
    for batch in read(source):
        total.add(batch)
    return total.text()
