#!/usr/bin/env bash
# Do the Binder files give an environment in which every chapter runs, in the memory that Binder lends?
# Does what Binder does with the last commit, in a folder of its own: runtime.txt, apt.txt, requirements.txt,
# and postBuild; then executes each chapter. Needs the network; root, or the packages of apt.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone --quiet . "$work/book"
cd "$work/book"

wanted=$(cat runtime.txt)                       # python-3.11
python=${PYTHON:-${wanted/-/}}
found=$("$python" -c 'import sys; print("python-%d.%d" % sys.version_info[:2])')
[[ $found == "$wanted" ]] || { echo "runtime.txt: expected $wanted, found $found; set PYTHON" >&2; exit 1; }

if [[ $(id -u) == 0 ]]; then
  apt-get update --quiet=2
  xargs --arg-file=apt.txt apt-get install --quiet=2 --yes --no-install-recommends
else
  xargs --arg-file=apt.txt dpkg-query --show
fi

# Nothing of the caller's own settings: not the variables that `make` sets, nor a home with caches.
unset KERAS_BACKEND PYTHONWARNINGS PYTHONPATH VIRTUAL_ENV MLSD_SEED MLSD_WITHOUT MLSD_CLAIMS
"$python" -m venv "$work/environment"
export HOME=$work PATH=$work/environment/bin:/usr/local/bin:/usr/bin:/bin
pip install --quiet --disable-pip-version-check --no-cache-dir --requirement requirements.txt
./postBuild
jupyter lab --version > /dev/null
python -m press.execute --workers 1 --memory-limit 1000
