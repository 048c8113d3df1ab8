# Sourced by other scripts: installs packages of the system.

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
# Without apt-get it reports WHAT is missing and the REMEDY, and exits the script.
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
