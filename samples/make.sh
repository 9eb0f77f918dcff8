#!/bin/sh
# Makes the files of this folder anew: make.sh [FOLDER, this one] [PROCESSES, 2]. About 20 minutes of one core.
# bl-simulate is taken from BEAMLINE_BIN (default build/bin); python3 needs numpy and msgpack (python3-numpy, python3-msgpack).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
to=${1:-$here} threads=${2:-2}
bin=${BEAMLINE_BIN:-$here/../build/bin}
python=${PYTHON:-/usr/bin/python3}
mkdir -p "$to/anomaly"

simulate() { "$bin/bl-simulate" "$@" --threads "$threads" --force; }
# The anomaly chain: what a search for four tops sees after its selection, and two signals
simulate events --selection multitop --seed 1 --process ttH:8000,ttWW-like:8000,ttZ-like:6000,tt:3000 --out "$to/anomaly/background.bl"
simulate events --selection multitop --seed 2 --process ttA500:5000 --out "$to/anomaly/signal_ttA500.bl"
simulate events --selection multitop --seed 3 --process gluino-4top:4000 --out "$to/anomaly/signal_gluino.bl"
# Jets of the classes of JetClass that Pythia makes
simulate jets --seed 4 --process QCD:300,Hbb:100,Hcc:100,Hgg:100,Zqq:100,Wqq:100,Tbqq:100 --out "$to/jets.bl"
# The same events in the text format of the Dark Machines challenge
PYTHONPATH=$here/../python "$python" -m beamline.darkmachines --force --out "$to/darkmachines.csv" \
  "$to/anomaly/background.bl:1600" "$to/anomaly/signal_ttA500.bl:200" "$to/anomaly/signal_gluino.bl:200"
# The first jets in the layout of JetClass, where uproot and pyarrow are (make -f Makefile.workflow venv-import)
tables=${BEAMLINE_IMPORT_VENV:-$here/../.venv-import}/bin/python
if [ -x "$tables" ]; then PYTHONPATH=$here/../python "$tables" "$here/jetclass.py" "$to"; else echo "make.sh: no $tables: jetclass.root and jetclass.parquet are left out" >&2; fi
