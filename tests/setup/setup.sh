#!/bin/sh
# Installs what a build needs besides a Rust toolchain, a C and C++ compiler and make: libclang,
# which parses RocksDB's headers, and the standard library of the guests' target. Skips what is
# already installed. `setup.sh tools FOLDER` also installs the tool servers that tests use.
set -eu
here=$(dirname "$0")
. "$here/apt.sh"

libclang_is_there() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    for folder in "$(llvm-config --libdir 2>/dev/null || true)" \
        /usr/lib /usr/lib64 /usr/local/lib /usr/lib/*-linux-gnu /usr/lib/llvm-*/lib; do
        for file in "$folder"/libclang.so* "$folder"/libclang-[0-9]*.so*; do
            [ -e "$file" ] && return 0
        done
    done
    return 1
}

if ! libclang_is_there; then
    apt_install libclang "install it (or set LIBCLANG_PATH to its folder)" libclang-dev
fi

sysroot=$(rustc --print sysroot)
if [ ! -d "$sysroot/lib/rustlib/wasm32-wasip2" ]; then
    if ! command -v rustup >/dev/null; then
        echo "setup: the target wasm32-wasip2 is missing and there is no rustup; install it as" \
            "your toolchain's vendor says, then make again" >&2
        exit 1
    fi
    echo "setup: adding the target wasm32-wasip2"
    rustup target add wasm32-wasip2
fi

if [ "${1:-}" = tools ]; then
    "$here/real_tools/setup.sh" "$2"
fi
