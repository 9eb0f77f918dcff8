"""What columns are called in published files. Standard library only: --help lists the names."""

# What is filled -> the names that it is looked for under, in this order. Of the constituents of jets:
PARTICLE = {
    "pt": ("pt", "part_pt"),
    "eta": ("eta", "part_eta"),
    "phi": ("phi", "part_phi"),
    "px": ("px", "part_px"),
    "py": ("py", "part_py"),
    "pz": ("pz", "part_pz"),
    "eta_rel": ("eta_rel", "part_etarel", "part_eta_rel", "etarel"),  # eta - eta of the jet
    "phi_rel": ("phi_rel", "part_phirel", "part_dphi", "part_phi_rel", "phirel"),
    "deta": ("part_deta",),  # the same with the sign of the jet's eta (JetClass)
    "mass": ("mass", "part_mass"),
    "energy": ("energy", "part_energy"),
    "charge": ("charge", "part_charge"),
    "pid": ("pid", "part_pid", "pdgId", "part_pdgId"),
    "is_charged_hadron": ("part_isChargedHadron",),
    "is_neutral_hadron": ("part_isNeutralHadron",),
    "is_photon": ("part_isPhoton",),
    "is_electron": ("part_isElectron",),
    "is_muon": ("part_isMuon",),
    "d0": ("d0", "part_d0val", "part_d0"),
    "d0_error": ("d0_error", "part_d0err"),
    "dz": ("dz", "part_dzval", "part_dz"),
    "dz_error": ("dz_error", "part_dzerr"),
}
# of jets:
JET = {
    "jet_pt": ("jet_pt",),
    "jet_eta": ("jet_eta",),
    "jet_phi": ("jet_phi",),
    "jet_mass": ("jet_mass",),
    "jet_energy": ("jet_energy",),
    "event_id": ("event_id", "event", "event_no"),
    "weight": ("weight", "event_weight"),
    "label": ("label", "jet_label"),
}
TARGETS = [*PARTICLE, *JET]
# PDG ids of the classes that the flags name
FLAGS = {"is_charged_hadron": 211, "is_neutral_hadron": 130, "is_photon": 22, "is_electron": 11, "is_muon": 13}
TRACKING = ("d0", "d0_error", "dz", "dz_error")

# Classes of JetClass (arXiv:2202.03772) in the order of its numbers; its files have one flag a class, label_NAME.
JETCLASS = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
LABEL_PREFIX = "label_"

# Jets of events, whose constituents stand once an event: (jets, index of the jet, spellings of the index of the candidate,
# candidates, weight of the candidates in these jets), the largest radius first. AK8 jets are PUPPI jets.
NANO = [
    ("FatJet", "FatJetPFCands_jetIdx", ("FatJetPFCands_pFCandsIdx", "FatJetPFCands_pfCandIdx"), "PFCands", "puppiWeight"),
    ("Jet", "JetPFCands_jetIdx", ("JetPFCands_pFCandsIdx", "JetPFCands_pfCandIdx"), "PFCands", None),
]
NANO_PARTICLE = {"pt": "pt", "eta": "eta", "phi": "phi", "mass": "mass", "charge": "charge", "pid": "pdgId",
                 "d0": "d0", "d0_error": "d0Err", "dz": "dz", "dz_error": "dzErr"}  # in cm
NANO_JET = {"jet_pt": "pt", "jet_eta": "eta", "jet_phi": "phi", "jet_mass": "mass"}

# Delphes: jets refer to candidates by unique id; other kinds of constituents (towers, tracks) are usually not in the file.
DELPHES_CANDIDATES = "ParticleFlowCandidate"
DELPHES_PARTICLE = {"pt": "PT", "eta": "Eta", "phi": "Phi", "mass": "Mass", "charge": "Charge", "pid": "PID",
                    "d0": "D0", "d0_error": "ErrorD0", "dz": "DZ", "dz_error": "ErrorDZ"}  # in mm
DELPHES_JET = {"jet_pt": "PT", "jet_eta": "Eta", "jet_phi": "Phi", "jet_mass": "Mass"}
