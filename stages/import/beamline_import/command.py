"""The command line of bl-import. Standard library only, so that --help works everywhere."""
import difflib

from beamline_stage.command import Option, Program, Usage, common_options

from .names import TARGETS

NAME = "bl-import"
OPTIONS = [
    Option("in", "list", [], "Files to read, several joined by commas; also as plain arguments; * ? [] match names", common=True),
    Option("tree", "string", "", "Tree of a ROOT file, where it holds several"),
    Option("events", "uint", 0, "Jets to read in all; 0 for all of them", low=0, high=2**62),
    Option("skip", "uint", 0, "Jets to pass over before", low=0, high=2**62),
    Option("map", "list", [], "Columns of other names: pt=my_pt,eta=my_eta,…; an empty name leaves a column out: d0="),
    Option("collection", "string", "", "Which jets of NanoAOD (FatJet or Jet; default FatJet where it is) or Delphes (e.g. JetPUPPIAK8) to read"),
    Option("process", "string", "", "Process name of every jet, in place of the file's"),
    Option("label", "string", "", "Label of every jet, in place of the file's"),
    Option("names", "list", [], "Names of the labels 0, 1, 2, …, where the file does not name them: background,signal"),
    Option("unit", "string", "GeV", "Unit of momenta and energies in the file", choices=("GeV", "MeV")),
] + common_options("Threads that unpack; results do not depend on it")
EXAMPLES = [
    ("bl-import 'JetClass/train/HToBB_*.root' --events 100000 | bl-preprocess --out jets.bl", "JetClass, the first 100000 jets, sorted by pt"),
    ("bl-import jets.parquet --map pt=c_pt,eta=c_eta,phi=c_phi,label=is_top --names qcd,top --out jets.bl", "columns of other names"),
    ("bl-import pfnano.root --collection Jet --out ak4.bl", "jets of CMS NanoAOD with their candidates"),
    ("bl-import delphes.root --collection JetPUPPIAK8 --process ttbar --label 8 --out ak8.bl", "jets of Delphes"),
]


class Request:
    """Options beyond their types. columns: {target: name in the file, or "" to leave it out}; label: number or None."""

    def __init__(self, columns, label):
        self.columns, self.label = columns, label


def check(values):
    if not values["in"]:
        raise Usage(f"no file to read: {NAME} FILE…; see {NAME} --help")
    columns = {}
    for word in values["map"]:
        target, equals, name = word.partition("=")
        if not equals:
            raise Usage(f"--map: '{word}' is not NAME=COLUMN, e.g. pt=my_pt")
        if target not in TARGETS:
            close = difflib.get_close_matches(target, TARGETS, 1, 0.6)
            raise Usage(f"--map: there is no '{target}' to fill" + (f", did you mean {close[0]}?" if close else "") + f"; there are {', '.join(TARGETS)}")
        if target in columns:
            raise Usage(f"--map: '{target}' is there twice")
        columns[target] = name
    label = None
    if values["label"]:
        try:
            label = int(values["label"])
        except ValueError:
            raise Usage(f"--label: '{values['label']}' is not a whole number") from None
        if not -2**31 <= label < 2**31:
            raise Usage(f"--label: {label} is not between {-2**31} and {2**31 - 1}")
    for word in [values["process"], *values["names"]]:
        if len(word) > 255 or not all(" " <= c <= "~" for c in word):
            raise Usage(f"'{word}' is not a name of up to 255 printable ASCII characters")
    return Request(columns, label)


PROGRAM = Program(
    name=NAME, summary="Jets with constituents of ROOT and Parquet files as a stream", usage=f"{NAME} [options] FILE…",
    stream=["reads   ROOT files (JetClass and trees like it, CMS NanoAOD with PFCands, Delphes) and Parquet files", "writes  particles/1"],
    options=OPTIONS, examples=EXAMPLES, writes=["particles/1"], modules=("uproot", "awkward", "pyarrow", "xxhash", "numpy", "msgpack"),
    remedy="run `make -f Makefile.workflow venv-import`, or name an environment that has them in BEAMLINE_IMPORT_VENV", reads_files=True, positional="in",
    sections=[("Names that --map fills", ", ".join(TARGETS) + ". docs/preprocess.md says what each is filled from by itself."),
              ("Order", "Constituents stay in the order of the file; bl-preprocess sorts, selects and transforms them."),
              ("Python", "It runs in the environment that `make -f Makefile.workflow venv-import` makes (.venv-import), or in the one that BEAMLINE_IMPORT_VENV names.")])


def body(options, request, entry, progress):
    from .produce import run
    run(options, request, entry, progress)


def main(arguments, version):
    return PROGRAM.main(arguments, version, check, body)
