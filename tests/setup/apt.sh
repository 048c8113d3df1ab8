# For other scripts: what comes from the system's packages.

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

# Usage: apt_install WHAT REMEDY PACKAGE...
# Where there is no apt-get it ends the script and says what is missing, and what to do.
apt_install() {
    what=$1
    remedy=$2
    shift 2
    if ! command -v apt-get >/dev/null; then
        echo "setup: $what is missing and there is no apt-get; $remedy, then make again" >&2
        exit 1
    fi
    echo "setup: installing $*"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"
}
