# Shared by the set-up scripts beside it: folders, messages, and the way to root.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/plugvault
INTERPRETERS=$CACHE/micropython
VENV=$ROOT/.venv
LOG=$ROOT/build/setup/$(basename "$0").log
mkdir -p "$ROOT/build/setup" "$INTERPRETERS"

say() { printf 'set-up: %s\n' "$*"; }

# Run a command with its output in the log; when it fails, show the end of the log.
quietly() {
    "$@" >"$LOG" 2>&1 </dev/null && return
    say "this failed: $*" >&2
    grep -v WARNING "$LOG" | tail -n 4 | sed 's/^/    /' >&2
    return 1
}

# The words before a command that run it as root; empty where that is not possible.
if [ "$(id -u)" = 0 ]; then
    AS_ROOT=(env)
elif sudo -n true 2>/dev/null; then
    AS_ROOT=(sudo -n env)
else
    AS_ROOT=()
fi

# apt_install PACKAGE...: install from the system's own sources, or print the command for root.
apt_install() {
    if ! command -v apt-get >/dev/null; then
        say "missing packages, by their Debian names: $*. Install your system's own packages."
        return 1
    fi
    if [ ${#AS_ROOT[@]} = 0 ]; then
        say "only root can install: $*. Ask an administrator to run:"
        say "    apt-get install $*"
        return 1
    fi
    say "installing $* (apt-get)"
    local apt=("${AS_ROOT[@]}" DEBIAN_FRONTEND=noninteractive apt-get -q -y)
    quietly "${apt[@]}" install --no-install-recommends "$@" 2>/dev/null && return
    quietly "${apt[@]}" update && quietly "${apt[@]}" install --no-install-recommends "$@"
}

# in_place NEW TARGET: rename the folder NEW, unless another run has made TARGET meanwhile.
in_place() { mv -T "$1" "$2" 2>/dev/null || { [ -d "$2" ] && rm -rf "$1"; }; }

# runs INTERPRETER: is it a MicroPython that starts?
runs() { [ -x "$1" ] && [ "$("$1" -c 'print(6*7)' 2>/dev/null)" = 42 ]; }
