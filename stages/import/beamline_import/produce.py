"""The stream of a run: files one after the other, read piece by piece, written in batches of about 1 MiB."""
import glob
import os

import numpy as np
import xxhash

import beamline
from beamline_stage.run import check_output

from .convert import Converter
from .layouts import cut, layout_of
from .sources import open_source

_BATCH_JETS, _BATCH_PARTICLES = 4096, 25_000  # about 1 MiB


def files_of(words):
    """Paths in the order given; a pattern is replaced by what it matches, sorted."""
    paths = []
    for word in words:
        if os.path.exists(word) or not glob.has_magic(word):
            paths.append(word)
            continue
        found = sorted(glob.glob(word, recursive=True))
        if not found:
            raise beamline.InputError(f"no file matches '{word}'")
        paths += found
    return paths


def hash_of(path):
    """Hash of the whole content, as bl-show prints it."""
    digest = xxhash.xxh3_64()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Plan:
    """Which files are read, by which layout; all must have the same columns. jets: how many there will be, where that is known
    before they are read; else 0."""

    def __init__(self, options, request):
        self.sources, self.layout, self.jets = [], None, 0
        skip, left = options.skip, options.events or None
        for path in files_of(options.__dict__["in"]):
            source = open_source(path, options.tree, options.threads)
            layout = layout_of(source, options, request)
            source.close()
            if self.layout is None:
                self.layout = layout
            elif layout.facts() != self.layout.facts():
                raise beamline.UsageError(f"'{self.sources[0]}' and '{path}' have different columns: import them apart")
            self.sources.append(path)
            if layout.name == "jets":  # an entry is a jet: what is not needed is not opened
                here = max(0, source.entries - skip)
                skip = max(0, skip - source.entries)
                self.jets += here if left is None else min(here, left)
                left = None if left is None else left - min(here, left)
                if left == 0:
                    break


def batches(jets):
    """Jets in parts of about 1 MiB each."""
    begin = 0
    while begin < len(jets):
        end = int(np.searchsorted(jets.offsets, jets.offsets[begin] + _BATCH_PARTICLES, "right")) - 1
        end = min(max(end, begin + 1), begin + _BATCH_JETS, len(jets))
        yield cut(jets, begin, end) if (begin, end) != (0, len(jets)) else jets
        begin = end


def run(options, request, entry, progress):
    check_output("bl-import", options.out, options.force)
    plan = Plan(options, request)
    progress.total(plan.jets)
    names = {**plan.layout.labels(), **dict(enumerate(options.names))}
    converter = Converter(1e-3 if options.unit == "MeV" else 1.0, options.process, request.label, names)
    entry["inputs"] = [{"path": path, "hash": hash_of(path)} for path in plan.sources]
    meta = {"import": {"layout": plan.layout.name, "format": plan.layout.source.kind, "unit": options.unit, **plan.layout.facts(),
                       **({"tree": plan.layout.source.tree} if plan.layout.source.tree else {})}}
    if names:
        meta["labels"] = {str(i): name for i, name in sorted(names.items())}
    with beamline.Writer(options.out, "particles/1", meta, [entry], force=options.force) as out:
        written = write(options, request, plan, converter, out, progress)
        if written == 0:
            raise beamline.InputError(f"no jets: --skip {options.skip} passes over all of them" if options.skip else f"'{plan.sources[0]}' holds no jets")
    progress.finish(written)


def write(options, request, plan, converter, out, progress):
    """Writes every jet that is asked for; returns how many."""
    passed, written = 0, 0
    for path in plan.sources:
        source = open_source(path, options.tree, options.threads)
        try:
            layout = layout_of(source, options, request)
            for piece in layout.pieces(options.skip - passed, options.events - written if options.events else None):
                for jets in batches(piece):
                    index = options.skip + written  # counts through the files from their first jet on
                    out.write(converter.columns(jets, index, index))
                    written += len(jets)
                    progress.show(written)
                    if not out.wanted:
                        return written
            passed += layout.passed
        finally:
            source.close()
        if options.events and written == options.events:
            break
    return written
