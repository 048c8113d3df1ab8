#!/bin/sh
# Installs Schemathesis and a validator of OpenAPI documents from PyPI into FOLDER, with all that they are
# built on at pinned versions. Does nothing where they are there; then no network is needed.
# Usage: setup.sh FOLDER
set -eu
here=$(dirname "$0")
folder=$1
python=${PYTHON:-python3}

if ! "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "api-fuzz: '$python' is missing, older than 3.11, or has no venv; install it (on Debian and" \
        "Ubuntu: apt-get install python3-venv) or name another by PYTHON=, then make again" >&2
    exit 1
fi

# The list stands beside what it led to: a changed one, or an installation that was cut, begins anew.
if ! cmp -s "$here/requirements.txt" "$folder/requirements.txt"; then
    echo "api-fuzz: installing into $folder (110 MB, once)"
    rm -rf "$folder"
    "$python" -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps \
        --only-binary :all: --require-hashes -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$folder/requirements.txt"
fi
