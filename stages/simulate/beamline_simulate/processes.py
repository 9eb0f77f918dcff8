"""What can be generated: processes of whole events and classes of jets, as settings of Pythia 8 (13 TeV, Monash tune).

Standard library only: --help and --describe are made from these tables.
"""
from dataclasses import dataclass
from pathlib import Path

BEAMS = ["Beams:idA=2212", "Beams:idB=2212", "Beams:eCM=13000."]
# Particles with c tau above 10 mm fly into the detector: K_S, Lambda and others do not decay.
COMMON = BEAMS + ["Print:quiet=on", "ParticleDecays:limitTau0=on", "ParticleDecays:tau0Max=10."]

_TTBAR = ["Top:gg2ttbar=on", "Top:qqbar2ttbar=on"]
_TTHIGGS = ["HiggsSM:gg2Httbar=on", "HiggsSM:qqbar2Httbar=on"]
# Branching ratios of the Z in per cent (PDG): up-type 11.6 each, d and s 15.6, b 15.1, a charged lepton 3.4, a neutrino 6.7
_Z_MODES = [(2, .116), (4, .116), (1, .156), (3, .156), (5, .151), (11, .034), (13, .034), (15, .034), (12, .067), (14, .067), (16, .067)]


def _z_like():
    """A scalar of the Z's mass that decays like one, made with a top pair."""
    channels = [f"25:{'addChannel' if i else 'oneChannel'}=1 {fraction} 100 {pdg} {-pdg}" for i, (pdg, fraction) in enumerate(_Z_MODES)]
    return _TTHIGGS + ["25:m0=91.2", "25:mWidth=2.5", "25:doForceWidth=on", "25:mMin=60.", "25:mMax=130.", "Higgs:cubicWidth=off"] + channels


@dataclass(frozen=True)
class Process:
    name: str
    number: int     # fixed for ever: event ids and seeds are made from it
    label: int      # 0 Standard Model, 1 signal; of a jet class: its number in JetClass
    settings: tuple
    doc: str
    variants: tuple = ((),)  # further settings, of generators that take turns


def _table(*rows):
    return {name: Process(name, number, label, tuple(settings), doc, *variants) for name, number, label, settings, doc, *variants in rows}


EVENTS = _table(
    ("tt", 1, 0, _TTBAR, "top pairs"),
    ("single-top", 2, 0, ["Top:qq2tq(t:W)=on", "Top:ffbar2tqbar(s:W)=on"], "single top, t and s channel"),
    ("W+jets", 3, 0, ["WeakBosonAndParton:qqbar2Wg=on", "WeakBosonAndParton:qg2Wq=on", "PhaseSpace:pTHatMin=30."], "a W and a parton, pTHat > 30 GeV"),
    ("Z+jets", 4, 0, ["WeakBosonAndParton:qqbar2gmZg=on", "WeakBosonAndParton:qg2gmZq=on", "PhaseSpace:pTHatMin=30.", "23:mMin=50."],
     "a Z or photon above 50 GeV and a parton, pTHat > 30 GeV"),
    ("VV", 5, 0, ["WeakDoubleBoson:ffbar2gmZgmZ=on", "WeakDoubleBoson:ffbar2ZW=on", "WeakDoubleBoson:ffbar2WW=on", "23:mMin=50."], "pairs of W and Z"),
    ("QCD", 6, 0, ["HardQCD:all=on", "PhaseSpace:pTHatMin=100."], "two partons, pTHat > 100 GeV"),
    ("ttH", 7, 0, _TTHIGGS, "a top pair and a Higgs boson of 125 GeV, all decays"),
    ("ttZ-like", 8, 0, _z_like(), "stand-in for ttZ: a top pair and a scalar of 91.2 GeV with the decays of a Z"),
    ("ttWW-like", 9, 0, _TTHIGGS + ["25:m0=170.", "25:onMode=off", "25:onIfMatch=24 -24"], "stand-in for ttW and ttWW: a top pair and a scalar of 170 GeV to WW"),
    ("4top", 10, 0, _TTBAR + ["SecondHard:generate=on", "SecondHard:TopPair=on"], "stand-in for four tops: two top pairs from two parton collisions"),
    ("3top", 11, 0, _TTBAR + ["SecondHard:generate=on", "SecondHard:SingleTop=on"], "stand-in for three tops: a top pair and a single top from two parton collisions"),
    ("ttA500", 20, 1, ["Higgs:useBSM=on", "HiggsBSM:gg2A3ttbar=on", "HiggsBSM:qqbar2A3ttbar=on", "36:m0=500.", "36:onMode=off", "36:onIfMatch=6 -6"],
     "a top pair and a pseudoscalar of 500 GeV to a top pair: four tops"),
    ("gluino-4top", 21, 1, ["SUSY:gg2gluinogluino=on", "SUSY:qqbar2gluinogluino=on", f"SLHA:file={Path(__file__).with_name('gluino.slha')}", "SLHA:verbose=0"],
     "pairs of gluinos of 1600 GeV, each to a top pair and a neutralino of 200 GeV (gluino.slha)"),
    ("Zprime-tt", 22, 1, ["NewGaugeBoson:ffbar2gmZZprime=on", "Zprime:gmZmode=3", "32:m0=2000.", "32:onMode=off", "32:onIfAny=6"], "a Z' of 2 TeV to a top pair"),
    ("Gstar-hh", 23, 1, ["ExtraDimensionsG*:all=on", "5100039:m0=1500.", "5100039:onMode=off", "5100039:onIfAny=25"], "a graviton of 1.5 TeV to two Higgs bosons"),
)

# Jets: the hard process is made with pTHat 450 to 1100 GeV, weighted with pTHat^4 so that 500 to 1000 GeV is filled
# evenly; the weight column undoes it.
JETS_COMMON = ["PhaseSpace:pTHatMin=450.", "PhaseSpace:pTHatMax=1100.", "PhaseSpace:bias2Selection=on", "PhaseSpace:bias2SelectionPow=4.",
               "PhaseSpace:bias2SelectionRef=500."]
_HZ = ["HiggsSM:ffbar2HZ=on", "23:onMode=off", "23:onIfAny=12 14 16", "25:onMode=off"]
_HADRONIC = "1 2 3 4 5"

_WW = _HZ + ["25:onIfMatch=24 -24", "24:onMode=off"]
_LEPTONIC = "11 13"  # as in JetClass

JETS = _table(
    ("QCD", 101, 0, ["HardQCD:all=on"], "light quarks, c, b and gluons"),
    ("Hbb", 102, 1, _HZ + ["25:onIfMatch=5 -5"], "H to bb, made with Z to neutrinos"),
    ("Hcc", 103, 2, _HZ + ["25:onIfMatch=4 -4"], "H to cc, made with Z to neutrinos"),
    ("Hgg", 104, 3, _HZ + ["25:onIfMatch=21 21"], "H to gg, made with Z to neutrinos"),
    ("H4q", 105, 4, _WW + [f"24:onIfAny={_HADRONIC}"], "H to WW* to four quarks, made with Z to neutrinos"),
    # Pythia can tell W+ from W-, not the first from the second: two generators, one for each charge of the lepton
    ("Hqql", 106, 5, _WW, "H to WW* to two quarks, an electron or muon and its neutrino, made with Z to neutrinos",
     tuple((f"24:on{a}IfAny={_HADRONIC}", f"24:on{b}IfAny={_LEPTONIC}") for a, b in (("Pos", "Neg"), ("Neg", "Pos")))),
    ("Zqq", 107, 6, ["WeakBosonAndParton:qqbar2gmZg=on", "WeakBosonAndParton:qg2gmZq=on", "WeakZ0:gmZmode=2", "23:onMode=off", f"23:onIfAny={_HADRONIC}"],
     "Z to quarks, made with a parton"),
    ("Wqq", 108, 7, ["WeakBosonAndParton:qqbar2Wg=on", "WeakBosonAndParton:qg2Wq=on", "24:onMode=off", f"24:onIfAny={_HADRONIC}"], "W to quarks, made with a parton"),
    ("Tbqq", 109, 8, _TTBAR + ["24:onMode=off", f"24:onIfAny={_HADRONIC}"], "t to bqq', made in pairs"),
    ("Tbl", 110, 9, _TTBAR + ["24:onMode=off", f"24:onIfAny={_LEPTONIC}"], "t to b, an electron or muon and its neutrino, made in pairs"),
    # The hard processes without a quark (or gluon) in the final state have no such jet: leaving them out changes speed only.
    ("q", 111, 10, [f"HardQCD:{p}=on" for p in ("gg2qqbar", "qg2qg", "qq2qq", "qqbar2qqbarNew", "gg2ccbar", "qqbar2ccbar", "gg2bbbar", "qqbar2bbbar")],
     "quark jets of QCD, c and b among them"),
    ("g", 112, 11, [f"HardQCD:{p}=on" for p in ("gg2gg", "qg2qg", "qqbar2gg")], "gluon jets of QCD"),
)
# PDG id of the particle whose decay makes the jet, per class; None: a parton of the hard process
RESONANCE = {"QCD": None, "Hbb": 25, "Hcc": 25, "Hgg": 25, "H4q": 25, "Hqql": 25, "Zqq": 23, "Wqq": 24, "Tbqq": 6, "Tbl": 6, "q": None, "g": None}


@dataclass(frozen=True)
class Label:
    name: str       # in the stream
    number: int     # that of JetClass (arXiv:2202.03772); quark and gluon jets apart come after its ten
    classes: tuple  # of JETS, in equal parts
    aliases: tuple
    doc: str


LABELS = {label.name: label for label in (
    Label("QCD", 0, ("q", "g"), ("qcd", "q/g"), "quark and gluon jets, half and half"),
    Label("Hbb", 1, ("Hbb",), ("H->bb",), "H to bb"),
    Label("Hcc", 2, ("Hcc",), ("H->cc",), "H to cc"),
    Label("Hgg", 3, ("Hgg",), ("H->gg",), "H to gg"),
    Label("H4q", 4, ("H4q",), ("H->4q", "H->qqqq"), "H to WW* to four quarks"),
    Label("Hqql", 5, ("Hqql",), ("H->qql", "H->lvqq"), "H to WW* to two quarks, e or mu, and a neutrino"),
    Label("Zqq", 6, ("Zqq",), ("Z", "Z->qq"), "Z to quarks"),
    Label("Wqq", 7, ("Wqq",), ("W", "W->qq"), "W to quarks"),
    Label("Tbqq", 8, ("Tbqq",), ("top", "t", "t->bqq"), "t to bqq'"),
    Label("Tbl", 9, ("Tbl",), ("t->bl", "t->blv"), "t to b, e or mu, and a neutrino"),
    Label("q", 10, ("q",), ("quark",), "quark jets"),
    Label("g", 11, ("g",), ("gluon",), "gluon jets"),
)}


def label_named(name):
    """The Label of a name or alias, in upper or lower case; None when there is none."""
    wanted = name.lower()
    return next((label for label in LABELS.values() if wanted in (n.lower() for n in (label.name, *label.aliases))), None)
