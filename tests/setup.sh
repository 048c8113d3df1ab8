#!/bin/sh
# Installs what a build needs beside a Rust toolchain, a C and C++ compiler and make: libclang,
# which reads RocksDB's headers, and the standard library of the guests' target. Does nothing
# where both are there.
set -eu

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

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "setup: cannot run '$*': neither root nor sudo; run it yourself, then make again" >&2
        exit 1
    fi
}

if ! libclang_is_there; then
    if ! command -v apt-get >/dev/null; then
        echo "setup: libclang is missing and there is no apt-get; install libclang" \
            "(or set LIBCLANG_PATH to its folder), then make again" >&2
        exit 1
    fi
    echo "setup: installing libclang-dev"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq libclang-dev
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
