"""What a run of a stage written in Python needs: an output that can be refused before the work, and progress."""
import json
import os
import sys
import time

import beamline


def check_output(name, out, force):
    """What can be refused is refused before minutes of work. name: of the program."""
    if out == "-":
        if os.isatty(1):
            raise beamline.UsageError("the output is binary and standard output is a terminal: give --out FILE, or pipe it into the next stage")
    elif "://" in out:
        raise beamline.UsageError(f"--out {out}: {name} writes to files and pipes; pipe it into a stage that writes to a socket")
    elif os.path.exists(out) and not force:
        raise beamline.WriteError(f"'{out}' exists: give --force to replace it, or another name")
    elif not os.access(os.path.dirname(os.path.abspath(out)), os.W_OK):
        raise beamline.WriteError(f"cannot create '{out}': its folder does not exist or may not be written")


class Progress:
    """One line redrawn on a terminal, nothing otherwise; the same numbers as JSON lines to a file."""

    def __init__(self, name, metrics, quiet):
        self._name, self._quiet = name, quiet or not sys.stderr.isatty()
        self._metrics = None
        if metrics:
            try:
                self._metrics = open(metrics, "w")
            except OSError as e:
                raise beamline.WriteError(f"cannot create '{metrics}': {e.strerror}") from None
        self._start, self._last, self._total = time.monotonic(), 0.0, 0

    def total(self, events):
        """0: not known."""
        self._total = events

    def show(self, events):
        now = time.monotonic() - self._start
        if now - self._last < 0.5 or not events:
            return
        self._last = now
        rate = events / now
        self._metric({"t": round(now, 2), "events": events, "rate": round(rate, 1)})
        if not self._quiet:
            seconds = int((self._total - events) / rate)
            known = (f"{events}/{self._total} events", f", {seconds // 60}:{seconds % 60:02d} left") if self._total else (f"{events} events", "")
            print(f"\r\033[K{self._name}: {known[0]}, {rate:.0f}/s{known[1]}", end="", file=sys.stderr, flush=True)

    def finish(self, events):
        self._metric({"done": True, "events": events, "seconds": round(time.monotonic() - self._start, 2)})
        self.clear()

    def clear(self):
        if not self._quiet:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _metric(self, line):
        if self._metrics:
            try:
                print(json.dumps(line), file=self._metrics, flush=True)
            except OSError as e:
                raise beamline.WriteError(f"cannot write metrics: {e.strerror}") from None
