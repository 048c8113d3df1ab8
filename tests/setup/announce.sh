#!/bin/sh
# Prints how long the demo will take: a newcomer's first build takes half an hour, and without
# output it would look like a hang.
set -eu
target=$1
if [ -e "$target/release/abide" ] && [ -e "$target/release/abide-demo" ]; then
    echo "demo: builds what has changed (seconds to some minutes), then runs for some ten seconds"
else
    echo "demo: the first build compiles RocksDB and wasmtime, 16 to 45 minutes on 2 cores; cargo"
    echo "      shows how far it is. Later builds are short. Then the demo runs for some ten seconds"
fi
