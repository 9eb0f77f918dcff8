#!/bin/sh
# Makes the Python environment of a stage written in Python: make_venv.sh [FOLDER, .venv] [STAGE, simulate]
#   simulate  bl-simulate: Pythia 8, FastJet, numpy; 230 MB from PyPI
#   import    bl-import: uproot, pyarrow, numpy; 310 MB from PyPI
# An environment that already has what stages/STAGE/requirements.txt names is left as it is.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-.venv}
stage=${2:-simulate}
requirements=$here/../stages/$stage/requirements.txt
case $stage in
  simulate) modules="pythia8mc, fastjet, msgpack, numpy" ;;
  import) modules="uproot, awkward, pyarrow, xxhash, msgpack, numpy" ;;
  *) echo "make_venv: no stage '$stage' in Python; there are simulate and import" >&2; exit 2 ;;
esac
if [ -f "$venv/requirements.done" ] && cmp -s "$requirements" "$venv/requirements.done"; then
  echo "make_venv: $venv is up to date"
  exit 0
fi
python=${PYTHON:-python3}
"$python" -c 'import sys, venv, ensurepip; assert sys.version_info >= (3, 11)' 2>/dev/null || {
  echo "make_venv: $python has no venv module or is older than 3.11: install python3 and python3-venv (make -f Makefile.workflow deps)" >&2
  exit 1
}
echo "make_venv: installing $modules from PyPI into $venv"
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
cd "$venv"  # pythia8mc runs every file of a folder called python that it finds here
bin/python -c "import $modules"
cp "$requirements" requirements.done
echo "make_venv: done"
