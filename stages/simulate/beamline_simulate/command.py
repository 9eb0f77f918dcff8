"""The command line of bl-simulate. Standard library only until events are made, so that --help works everywhere."""
import difflib

from beamline_stage.command import Option, Program, Usage, common_options

from .processes import EVENTS, JETS, LABELS, label_named

NAME = "bl-simulate"

OPTIONS = [
    Option("mode", "string", "events", "Whole events (objects/1) or jets (particles/1); may be given as the first word", choices=("events", "jets")),
    Option("process", "list", ["tt"], "Processes by name, joined by commas, each with its number of events after a colon: tt,ttH:8000"),
    Option("label", "list", [], "Jets by label, in place of --process: top,qcd:8000; the names of JetClass and their aliases (--list). QCD is half quark, half gluon jets"),
    Option("events", "uint", 1000, "Events (or jets) of each process or label that names no number", low=0, high=10**9),
    Option("selection", "string", "none", "Which events are kept: multitop = at least 5 jets, 2 b-tags, scalar pt sum above 400 GeV", choices=("none", "multitop")),
    Option("no-mpi", "bool", False, "Leave out multiparton interactions: three to five times as fast, cleaner events"),
    Option("sample", "uint", 0, "Number that is added to every event_id, times 10^15: samples of other seeds get ids of their own", low=0, high=10**4),
    Option("list", "bool", False, "Print the processes, classes and labels with what they are, and exit", effect=False),
] + common_options("Processes to compute with; results do not depend on it")
EXAMPLES = [
    ("bl-simulate events --process tt,ttH:500 --events 2000 --seed 1 --threads 4 --out events.bl", "2000 top pairs and 500 ttH, mixed"),
    ("bl-simulate events --process ttA500 --selection multitop | bl-show", "a signal straight into the next stage"),
    ("bl-simulate jets --label top,qcd --events 20000 --out jets.bl", "20000 jets of each of two labels with their constituents"),
    ("bl-simulate jets --label top,qcd --seed 2 --sample 1 --out more.bl", "more of them, with ids of their own"),
    ("bl-simulate jets --process QCD,Hbb,Tbqq --events 5000 --no-mpi --out jets.bl", "jets of three classes; QCD as it is produced"),
]


def question(values):
    """--list"""
    if not values["list"]:
        return False
    for title, table, schema in (("events", EVENTS, "objects/1"), ("jets", JETS, "particles/1")):
        print(f"{NAME} {title}, {schema}:")
        for p in table.values():
            print(f"  {p.name:14} {p.number:4}  label {p.label}  {p.doc}")
    print(f"{NAME} jets --label:")
    for label in LABELS.values():
        print(f"  {label.name:14} {label.number:4}  {label.doc}" + (f"; also {', '.join(label.aliases)}" if label.aliases else ""))
    return True


class Request:
    """So many events of a process (or jets of a class), and the label that they bear; None: the process's own."""

    def __init__(self, process, events, label=None):
        self.process, self.events, self.label = process, events, label


def counted(option, word, default):
    """(name, number) of NAME or NAME:NUMBER."""
    name, colon, number = word.partition(":")
    if colon and not number.isdecimal():
        raise Usage(f"--{option}: '{word}' is not NAME:EVENTS")
    return name, int(number) if colon else default


def requests(values):
    """What is to be made."""
    if values["label"]:
        out = by_label(values)
    else:
        out = by_process(values)
    if not 0 < sum(r.events for r in out):
        raise Usage("--events 0 leaves nothing to make")
    return [r for r in out if r.events]


def by_process(values):
    table = EVENTS if values["mode"] == "events" else JETS
    out = []
    for word in values["process"]:
        name = word.partition(":")[0]
        if name not in table:
            close = difflib.get_close_matches(name, table, 1, 0.4)
            raise Usage(f"--process: no process '{name}' for {values['mode']}" + (f", did you mean {close[0]}?" if close else "") + f"; known are {', '.join(table)}")
        name, events = counted("process", word, values["events"])
        if name in (r.process for r in out):
            raise Usage(f"--process: '{name}' is there twice")
        out.append(Request(name, events))
    if not out:
        raise Usage("--process names no process")
    return out


def by_label(values):
    if values["mode"] != "jets":
        raise Usage("--label is for jets: bl-simulate jets --label …; whole events are named by --process")
    if values["process"] != ["tt"]:
        raise Usage("--label and --process both say what to make: give one of them")
    out, seen = [], {}
    for word in values["label"]:
        name, events = counted("label", word, values["events"])
        label = label_named(name)
        if label is None:
            known = [n for entry in LABELS.values() for n in (entry.name, *entry.aliases)]
            close = difflib.get_close_matches(name, known, 1, 0.5)
            raise Usage(f"--label: no label '{name}'" + (f", did you mean {close[0]}?" if close else "") + f"; known are {', '.join(LABELS)}")
        for part, share in zip(label.classes, shares(events, len(label.classes))):
            if part in seen:
                both = f"'{name}' is there twice" if seen[part] == label.name else f"the jets of '{part}' would be in {seen[part]} and in {label.name}"
                raise Usage(f"--label: {both}")
            out.append(Request(part, share, label))
        seen.update({part: label.name for part in label.classes})
    values["process"] = []  # its default had no part in this: the history shall not say so
    return out


def shares(events, parts):
    """events divided as evenly as can be."""
    return [(events + parts - 1 - i) // parts for i in range(parts)]


PROGRAM = Program(
    name=NAME, summary="Collision events with Pythia 8 and a parametric detector, or jets with their constituents", usage=f"{NAME} events|jets [options]",
    stream=["writes  objects/1 (events) or particles/1 (jets)"], options=OPTIONS, examples=EXAMPLES, writes=["objects/1", "particles/1"],
    modules=("pythia8mc", "fastjet", "awkward", "vector", "numpy", "msgpack"),
    remedy="run `make -f Makefile.workflow venv`, or name an environment that has them in BEAMLINE_VENV", first="mode", question=question,
    sections=[("Processes of whole events", ", ".join(EVENTS)), ("Classes of jets", ", ".join(JETS)), ("Labels of jets", ", ".join(LABELS)),
              ("Detector and samples", "docs/samples.md says what is generated and how it is measured. Events of several processes leave evenly mixed. "
                                       "An event's id is the number of its process (--list) times 1000000000 plus its own number; with --label "
                                       "jets of one event share its id. Another seed makes other events with the same ids: --sample tells them apart."),
              ("Python", "It runs in the environment that `make -f Makefile.workflow venv` makes (.venv), or in the one that BEAMLINE_VENV names.")])


def body(options, wanted, entry, progress):
    from . import produce
    options.mpi = not options.no_mpi
    produce.run(options, wanted, [entry], progress)


def main(arguments, version):
    return PROGRAM.main(arguments, version, requests, body)
