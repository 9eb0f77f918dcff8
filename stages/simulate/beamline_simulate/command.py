"""The command line of bl-simulate. Standard library only until events are made, so that --help works everywhere."""
import difflib
import importlib.util
import os
import signal
import socket
import sys
import tomllib

from .processes import EVENTS, JETS

NAME = "bl-simulate"
SUMMARY = "Collision events with Pythia 8 and a parametric detector, or jets with their constituents"
DONE, FAILED, USAGE = 0, 1, 2


class Usage(Exception):
    pass


class Stopped(BaseException):
    def __init__(self, number):
        super().__init__(f"{NAME}: stopped by {signal.Signals(number).name}")
        self.number = number


class Option:
    """One option. type: "bool", "int", "uint", "string", "list"; the default decides nothing but the value."""

    def __init__(self, name, type, default, doc, choices=(), low=None, high=None, common=False, effect=True):
        self.name, self.type, self.default, self.doc, self.choices = name, type, default, doc, choices
        self.low, self.high, self.common, self.effect = low, high, common, effect

    def parse(self, text):
        if self.type == "bool":
            if text not in ("true", "false", True, False):
                raise Usage(f"--{self.name}: '{text}' is not true or false")
            return text in ("true", True)
        if self.type == "list":
            return [str(t) for t in text] if isinstance(text, list) else [t for t in str(text).split(",") if t]
        if self.type in ("int", "uint"):
            try:
                value = int(text)
            except ValueError:
                raise Usage(f"--{self.name}: '{text}' is not a whole number") from None
            low, high = self.low if self.low is not None else 0, self.high if self.high is not None else 2**63 - 1
            if not low <= value <= high:
                raise Usage(f"--{self.name}: {value} is not between {low} and {high}")
            return value
        if self.choices and text not in self.choices:
            raise Usage(f"--{self.name}: '{text}' is not one of {', '.join(self.choices)}")
        return str(text)


OPTIONS = [
    Option("mode", "string", "events", "Whole events (objects/1) or jets (particles/1); may be given as the first word", choices=("events", "jets")),
    Option("process", "list", ["tt"], "Processes by name, joined by commas, each with its number of events after a colon: tt,ttH:8000"),
    Option("events", "uint", 1000, "Events (or jets) of each process that names no number", low=0, high=10**9),
    Option("selection", "string", "none", "Which events are kept: multitop = at least 5 jets, 2 b-tags, scalar pt sum above 400 GeV", choices=("none", "multitop")),
    Option("no-mpi", "bool", False, "Leave out multiparton interactions: three to five times as fast, cleaner events"),
    Option("list", "bool", False, "Print the processes and classes with what they are, and exit", effect=False),
    Option("out", "string", "-", "Endpoint to write to: a file or - for standard output", common=True, effect=False),
    Option("seed", "uint", 1, "Seed of every random number of this stage", common=True),
    Option("threads", "int", 1, "Processes to compute with; results do not depend on it", low=1, high=1024, common=True, effect=False),
    Option("force", "bool", False, "Replace output files that exist", common=True, effect=False),
    Option("config", "string", "", "Read options from a TOML file; the command line wins", common=True, effect=False),
    Option("log-level", "string", "warn", "Least serious message to print", choices=("debug", "info", "warn", "error", "off"), common=True, effect=False),
    Option("metrics", "string", "", "Write progress as JSON lines to this file", common=True, effect=False),
    Option("quiet", "bool", False, "Do not draw progress", common=True, effect=False),
]
BY_NAME = {o.name: o for o in OPTIONS}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHORT = {"-o": "--out", "-h": "--help"}
EXAMPLES = [
    ("bl-simulate events --process tt,ttH:500 --events 2000 --seed 1 --threads 4 --out events.bl", "2000 top pairs and 500 ttH, mixed"),
    ("bl-simulate events --process ttA500 --selection multitop | bl-show", "a signal straight into the next stage"),
    ("bl-simulate jets --process QCD,Hbb,Tbqq --events 5000 --no-mpi --out jets.bl", "jets of three classes with their constituents"),
]


def parse(arguments, version):
    """Returns {option: value}, or an exit code when the command was a question."""
    values = {o.name: o.default for o in OPTIONS}
    given = {}
    words = list(arguments)
    if words and words[0] in BY_NAME["mode"].choices:
        given["mode"] = words.pop(0)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        name = SHORT.get(name, name)
        if name == "--help":
            print(help_text(), end="")
            return finish()
        if name == "--version":
            print(f"{NAME} (beamline) {version}")
            return finish()
        if name == "--describe":
            print(describe(version), end="")
            return finish()
        option = BY_NAME.get(name[2:]) if name.startswith("--") else None
        if option is None:
            close = difflib.get_close_matches(name, ["--" + n for n in BY_NAME] + ["--help", "--version", "--describe"], 1, 0.6)
            what = f"unknown option '{name}'" if name.startswith("-") else f"'{word}' is neither a mode (events, jets) nor an option"
            raise Usage(what + (f", did you mean {close[0]}?" if close else "") + f"; see {NAME} --help")
        if option.type == "bool" and not equals:
            value = "true"
        elif not equals:
            if not words:
                raise Usage(f"--{option.name} needs a value; see {NAME} --help")
            value = words.pop(0)
        given[option.name] = option.parse(value)
    if given.get("config"):
        path = given["config"]
        try:
            with open(path, "rb") as file:
                table = tomllib.load(file)
        except OSError as e:
            raise Usage(f"config file '{path}': {e.strerror}") from None
        except tomllib.TOMLDecodeError as e:
            raise Usage(f"config file '{path}': {e}") from None
        for key, value in table.items():
            if key not in BY_NAME or key == "config":
                raise Usage(f"config file '{path}': unknown key '{key}'")
            values[key] = BY_NAME[key].parse(value)
    values.update(given)
    if values["list"]:
        for title, table, schema in (("events", EVENTS, "objects/1"), ("jets", JETS, "particles/1")):
            print(f"{NAME} {title}, {schema}:")
            for p in table.values():
                print(f"  {p.name:14} {p.number:4}  label {p.label}  {p.doc}")
        return finish()
    return values


def finish():
    sys.stdout.flush()
    return DONE


def requests(values):
    """[(process, events)] of --process."""
    table = EVENTS if values["mode"] == "events" else JETS
    out = []
    for word in values["process"]:
        name, colon, number = word.partition(":")
        if name not in table:
            close = difflib.get_close_matches(name, table, 1, 0.4)
            raise Usage(f"--process: no process '{name}' for {values['mode']}" + (f", did you mean {close[0]}?" if close else "") + f"; known are {', '.join(table)}")
        if colon and not number.isdecimal():
            raise Usage(f"--process: '{word}' is not NAME:EVENTS")
        if name in (n for n, _ in out):
            raise Usage(f"--process: '{name}' is there twice")
        out.append((name, int(number) if colon else values["events"]))
    if not out:
        raise Usage("--process names no process")
    if not 0 < sum(n for _, n in out):
        raise Usage("--events 0 leaves nothing to make")
    return [(name, n) for name, n in out if n]


def help_text():
    lines = [f"{NAME} - {SUMMARY}", "", f"Usage: {NAME} events|jets [options]", "", "Stream:", "  writes  objects/1 (events) or particles/1 (jets)"]
    for common in (False, True):
        lines += ["", "Common options:" if common else "Options:"]
        for o in OPTIONS:
            if o.common != common:
                continue
            left = f"  --{o.name}" + ("" if o.type == "bool" else " " + ("|".join(o.choices) or o.type.upper()))
            default = "" if o.type == "bool" or o.default in ("", []) else f" [{','.join(o.default) if isinstance(o.default, list) else o.default}]"
            bounds = f" ({o.low} to {o.high})" if o.low is not None else ""
            text = wrap(o.doc + bounds + default, 28)
            lines.append(f"{left}\n{' ' * 28}{text}" if len(left) > 26 else f"{left:28}{text}")
        if common:
            lines += [f"  {'--describe':26}Print streams and options as TOML and exit", f"  {'--version':26}Print the version and exit", f"  {'--help, -h':26}Print this text and exit"]
    lines += ["", "Processes of whole events:", "  " + wrap(", ".join(EVENTS), 2), "", "Classes of jets:", "  " + wrap(", ".join(JETS), 2), "",
              "Detector and samples:", "  " + wrap("docs/samples.md says what is generated and how it is measured. Events of several processes leave evenly mixed. "
                                                   "An event's id is the number of its process (--list) times 1000000000 plus its own number.", 2), "",
              "Python:", "  " + wrap("It runs in the environment that `make -f Makefile.workflow venv` makes (.venv), or in the one that BEAMLINE_VENV names.", 2), "", "Examples:"]
    for command, what in EXAMPLES:
        lines += [f"  # {what}", f"  {command}"]
    lines += ["", "Exit codes:", "  0 done   1 failed   2 usage   3 bad input   4 cannot write   5 reader lost   6 writer lost   128+n signal"]
    return "\n".join(lines) + "\n"


def wrap(text, indent):
    lines, line = [], ""
    for word in text.split():
        if line and indent + len(line) + 1 + len(word) > 100:
            lines.append(line)
            line = ""
        line += (" " if line else "") + word
    return ("\n" + " " * indent).join(lines + [line])


def toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def describe(version):
    lines = [f"name = {toml(NAME)}", f"version = {toml(version)}", f"summary = {toml(SUMMARY)}", "reads = []", "reads_files = false",
             'writes = ["objects/1", "particles/1"]', "parallel = false"]
    for o in OPTIONS:
        lines += ["", "[[option]]", f"name = {toml(o.name)}", f"type = {toml(o.type)}", 'role = "value"', f"default = {toml(o.default)}"]
        lines += ["common = true"] if o.common else []
        lines += [] if o.effect else ["effect = false"]
        lines += [f"min = {float(o.low)}", f"max = {float(o.high)}"] if o.low is not None else []
        lines += [f"choices = {toml(o.choices)}"] if o.choices else []
        lines += [f"doc = {toml(o.doc)}"]
    return "\n".join(lines) + "\n"


def missing():
    """Modules that making events needs and this interpreter lacks."""
    return [m for m in ("pythia8mc", "fastjet", "awkward", "vector", "numpy", "msgpack") if importlib.util.find_spec(m) is None]


def stop(number, _):
    for again in SIGNALS:  # once is enough: cleaning up is not interrupted
        signal.signal(again, signal.SIG_IGN)
    raise Stopped(number)


def main(arguments, version):
    def complain(text):
        if values.get("log-level") != "off":
            print(f"{NAME}: error: {text}", file=sys.stderr)

    values = {}
    try:
        parsed = parse(arguments, version)
        if isinstance(parsed, int):
            return parsed
        values = parsed
        wanted = requests(values)
    except Usage as e:
        complain(e)
        return USAGE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 4
    except OSError as e:  # --help to a full disk must not look like success
        complain(f"cannot write standard output: {e.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 4
    absent = missing()
    if absent:
        complain(f"the Python modules {', '.join(absent)} are missing in {sys.executable}: run `make -f Makefile.workflow venv`, or name an environment that has them in BEAMLINE_VENV")
        return FAILED

    for number in SIGNALS:
        signal.signal(number, stop)
    progress = None
    try:
        from . import produce
        options = Settings(values)
        entry = {"stage": NAME, "version": version, "seed": values["seed"], "host": socket.gethostname(), "inputs": [],
                 "options": {o.name: values[o.name] for o in OPTIONS if o.effect and o.name != "seed"}}
        progress = produce.Progress(NAME, values["metrics"], values["quiet"])
        produce.run(options, wanted, [entry], progress)
    except Stopped as e:
        code, text = 128 + e.number, f"stopped by {signal.Signals(e.number).name}"
    except Exception as e:
        code = getattr(e, "code", None)
        text = str(e) if code else f"internal error: {type(e).__name__}: {e}"
        code = code or FAILED
    else:
        return DONE
    if progress:
        progress.clear()
    complain(text)
    return code


class Settings:
    """Option values as attributes."""

    def __init__(self, values):
        self.__dict__.update({k.replace("-", "_"): v for k, v in values.items()})
        self.mpi = not values["no-mpi"]
