"""jetnet's metrics without torch, awkward and coffea, which the package imports but W1, FPD, KPD, COV and MMD do not need:
empty modules stand in for them."""
import pathlib
import sys
import types


def stand_in(name, **members):
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module
    return module


class Nothing:
    def __init__(self, *args, **kwargs):
        raise NotImplementedError


stand_in("torch", Tensor=Nothing)
stand_in("torch.utils")
stand_in("torch.utils.data", DataLoader=Nothing, Dataset=object)
stand_in("awkward", behavior={})
for part in ("coffea", "coffea.nanoevents"):
    stand_in(part)
sys.modules["coffea.nanoevents"].methods = stand_in("coffea.nanoevents.methods", vector=types.SimpleNamespace(behavior={}))
stand_in("jetnet").__path__ = [next(p + "/jetnet" for p in sys.path if pathlib.Path(p, "jetnet/evaluation").is_dir())]
stand_in("jetnet.datasets", JetNet=Nothing)

import energyflow  # noqa: E402, F401
import jetnet.evaluation.gen_metrics as gen_metrics  # noqa: E402, F401
