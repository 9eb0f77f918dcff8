"""The command line of a stage written in Python, declared as data. Standard library only: --help and --describe work
without the libraries that the stage itself needs, and say which are missing.

    PROGRAM = Program(name="bl-scale", summary="…", usage="bl-scale [options] FILE…", options=[Option(…)], …)
    def main(arguments, version):
        return PROGRAM.main(arguments, version, check, body)

Exit codes, sentences on stderr, --describe and signals are those of the C++ stages (common/stage).
"""
import difflib
import importlib.util
import os
import signal
import socket
import sys
import tomllib

DONE, FAILED, USAGE, WRITE = 0, 1, 2, 4
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHORT = {"-o": "--out", "-i": "--in", "-h": "--help"}


class Usage(Exception):
    """The command line is wrong; the message is one sentence."""


class Stopped(BaseException):
    """A signal arrived."""

    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Option:
    """One option. type: "bool", "int", "uint", "string", "list". low, high: limits of a number, inclusive. effect: whether
    the result depends on it. common: listed with the options that every stage has."""

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


def common_options(threads_doc):
    """The options of every stage that writes a stream."""
    return [
        Option("out", "string", "-", "Endpoint to write to: a file or - for standard output", common=True, effect=False),
        Option("seed", "uint", 1, "Seed of every random number of this stage", common=True),
        Option("threads", "int", 1, threads_doc, low=1, high=1024, common=True, effect=False),
        Option("force", "bool", False, "Replace output files that exist", common=True, effect=False),
        Option("config", "string", "", "Read options from a TOML file; the command line wins", common=True, effect=False),
        Option("log-level", "string", "warn", "Least serious message to print", choices=("debug", "info", "warn", "error", "off"), common=True, effect=False),
        Option("metrics", "string", "", "Write progress as JSON lines to this file", common=True, effect=False),
        Option("quiet", "bool", False, "Do not draw progress", common=True, effect=False),
    ]


class Settings:
    """Option values as attributes."""

    def __init__(self, values):
        self.__dict__.update({k.replace("-", "_"): v for k, v in values.items()})


class Program:
    """usage: the line after "Usage:". stream: lines of the section "Stream". writes: ids of schemas. positional: name of a
    list option that plain arguments are added to. first: name of an option whose choices may be given as the first word.
    modules: what the body imports; remedy: what to do when one is missing. examples: [(command, what it does)]. sections:
    [(title, text)] of --help. question(values): prints an answer and returns True when the command was only a question."""

    def __init__(self, name, summary, usage, stream, options, examples, writes, modules, remedy, reads_files=False, positional=None, first=None,
                 sections=(), question=None):
        self.name, self.summary, self.usage, self.stream = name, summary, usage, stream
        self.options, self.examples, self.writes, self.modules, self.remedy = options, examples, writes, modules, remedy
        self.reads_files, self.positional, self.first, self.sections, self.question = reads_files, positional, first, sections, question
        self.by_name = {o.name: o for o in options}

    def parse(self, arguments, version):
        """Returns {option: value}, or an exit code when the command was a question."""
        values = {o.name: o.default for o in self.options}
        given = {}
        words = list(arguments)
        if self.first and words and words[0] in self.by_name[self.first].choices:
            given[self.first] = words.pop(0)
        while words:
            word = words.pop(0)
            name, equals, value = word.partition("=")
            name = SHORT.get(name, name)
            if name == "--help":
                print(self.help_text(), end="")
                return answered()
            if name == "--version":
                print(f"{self.name} (beamline) {version}")
                return answered()
            if name == "--describe":
                print(self.describe(version), end="")
                return answered()
            if self.positional and (not word.startswith("-") or word == "-"):
                given[self.positional] = given.get(self.positional, []) + self.by_name[self.positional].parse(word)
                continue
            option = self.by_name.get(name[2:]) if name.startswith("--") else None
            if option is None:
                raise Usage(self.unknown(word, name))
            if option.type == "bool" and not equals:
                value = "true"
            elif not equals:
                if not words:
                    raise Usage(f"--{option.name} needs a value; see {self.name} --help")
                value = words.pop(0)
            parsed = option.parse(value)
            if option.type == "list" and option.name in given:  # as in the programs in C++; a pipeline's lists come so
                given[option.name] = given[option.name] + parsed
            else:
                given[option.name] = parsed
        if given.get("config"):
            values.update(self.read_config(given["config"]))
        values.update(given)
        if self.question and self.question(values):
            return answered()
        return values

    def unknown(self, word, name):
        close = difflib.get_close_matches(name, ["--" + n for n in self.by_name] + ["--help", "--version", "--describe"], 1, 0.6)
        choices = self.by_name[self.first].choices if self.first else ()
        what = f"unknown option '{name}'" if name.startswith("-") or not choices else f"'{word}' is neither a {self.first} ({', '.join(choices)}) nor an option"
        return what + (f", did you mean {close[0]}?" if close else "") + f"; see {self.name} --help"

    def read_config(self, path):
        try:
            with open(path, "rb") as file:
                table = tomllib.load(file)
        except OSError as e:
            raise Usage(f"config file '{path}': {e.strerror}") from None
        except tomllib.TOMLDecodeError as e:
            raise Usage(f"config file '{path}': {e}") from None
        values = {}
        for key, value in table.items():
            if key not in self.by_name or key == "config":
                raise Usage(f"config file '{path}': unknown key '{key}'")
            values[key] = self.by_name[key].parse(value)
        return values

    def help_text(self):
        lines = [f"{self.name} - {self.summary}", "", f"Usage: {self.usage}", "", "Stream:"] + ["  " + line for line in self.stream]
        for common in (False, True):
            lines += ["", "Common options:" if common else "Options:"]
            for o in self.options:
                if o.common != common:
                    continue
                left = f"  --{o.name}" + ("" if o.type == "bool" else " " + ("|".join(o.choices) or o.type.upper()))
                default = "" if o.type == "bool" or o.default in ("", []) else f" [{','.join(o.default) if isinstance(o.default, list) else o.default}]"
                bounds = f" ({o.low} to {o.high})" if o.low is not None else ""
                text = wrap(o.doc + bounds + default, 28)
                lines.append(f"{left}\n{' ' * 28}{text}" if len(left) > 26 else f"{left:28}{text}")
            if common:
                lines += [f"  {'--describe':26}Print streams and options as TOML and exit", f"  {'--version':26}Print the version and exit",
                          f"  {'--help, -h':26}Print this text and exit"]
        for title, text in self.sections:
            lines += ["", f"{title}:", "  " + wrap(text, 2)]
        lines += ["", "Examples:"]
        for command, what in self.examples:
            lines += [f"  # {what}", f"  {command}"]
        lines += ["", "Exit codes:", "  0 done   1 failed   2 usage   3 bad input   4 cannot write   5 reader lost   6 writer lost   128+n signal"]
        return "\n".join(lines) + "\n"

    def describe(self, version):
        lines = [f"name = {toml(self.name)}", f"version = {toml(version)}", f"summary = {toml(self.summary)}", "reads = []",
                 f"reads_files = {toml(self.reads_files)}", f"writes = {toml(self.writes)}", "parallel = false"]
        for o in self.options:
            lines += ["", "[[option]]", f"name = {toml(o.name)}", f"type = {toml(o.type)}", 'role = "value"', f"default = {toml(o.default)}"]
            lines += ["common = true"] if o.common else []
            lines += [] if o.effect else ["effect = false"]
            lines += [f"min = {float(o.low)}", f"max = {float(o.high)}"] if o.low is not None else []
            lines += [f"choices = {toml(o.choices)}"] if o.choices else []
            lines += [f"doc = {toml(o.doc)}"]
        return "\n".join(lines) + "\n"

    def missing(self):
        """Modules that the body needs and this interpreter lacks."""
        return [m for m in self.modules if importlib.util.find_spec(m) is None]

    def main(self, arguments, version, check, body):
        """check(values) raises Usage for what no single option shows, and returns what the body needs beside the values;
        body(settings, checked, entry, progress) does the work; entry: the run's entry of the history. Returns the exit code."""
        values = {}

        def complain(text):
            if values.get("log-level") != "off":
                print(f"{self.name}: error: {text}", file=sys.stderr)

        try:
            parsed = self.parse(arguments, version)
            if isinstance(parsed, int):
                return parsed
            values = parsed
            checked = check(values)
        except Usage as e:
            complain(e)
            return USAGE
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return WRITE
        except OSError as e:  # --help to a full disk must not look like success
            complain(f"cannot write standard output: {e.strerror}")
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return WRITE
        absent = self.missing()
        if absent:
            complain(f"the Python modules {', '.join(absent)} are missing in {sys.executable}: {self.remedy}")
            return FAILED

        for number in SIGNALS:
            signal.signal(number, _stop)
        progress = None
        try:
            from .run import Progress
            entry = {"stage": self.name, "version": version, "seed": values["seed"], "host": socket.gethostname(), "inputs": [],
                     "options": {o.name: values[o.name] for o in self.options if o.effect and o.name != "seed"}}
            progress = Progress(self.name, values["metrics"], values["quiet"])
            body(Settings(values), checked, entry, progress)
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


def answered():
    sys.stdout.flush()
    return DONE


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


def _stop(number, _):
    for again in SIGNALS:  # once is enough: cleaning up is not interrupted
        signal.signal(again, signal.SIG_IGN)
    raise Stopped(number)
