# Shared by the set-up scripts beside it: folders, messages, and the way to root.

set -euo pipefail

say() { printf 'set-up: %s\n' "$*"; }

# stop WORD...: end with a reason and a remedy.
stop() {
    say "$*" >&2
    exit 1
}

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
VENV=$ROOT/.venv
STATE=$ROOT/build/setup

# As Python's Path.home(): without HOME, the folder that the system's list of users names.
HOME=${HOME:-$(getent passwd "$(id -u)" | cut -d : -f 6 || true)}
CACHE=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/plugvault
INTERPRETERS=$CACHE/micropython
[ -z "$HOME" ] || export HOME

# writable FOLDER: make it where it is missing; succeeds if this user can write there.
writable() { mkdir -p "$1" 2>/dev/null && [ -w "$1" ]; }

if ! writable "$STATE"; then
    if [ "$(basename "$0")" = all ] && [ -x "$VENV/bin/plugvault" ]; then
        say "this checkout cannot be written; it is used as it was set up"
        exit 0
    fi
    stop "this checkout cannot be written, and it is not set up: $ROOT"
fi
writable "$INTERPRETERS" || stop "the cache $CACHE cannot be written:" \
    "set XDG_CACHE_HOME to a folder of yours, for \`make\` and for plugvault"

LOG=$STATE/$(basename "$0").log
: >"$LOG"

# quietly COMMAND...: run it with its output in the log. A failure shows the end of the log, and
# before it the line of a network or a disk that failed: pip and apt name that one much earlier.
NO_NETWORK='Temporary failure[ a-z]*|Could not resolve[ a-z]*|Name or service not known'
NO_NETWORK+='|Network is unreachable|No route to host|Connection refused|[Cc]onnect[a-z]* timed out'
NO_NETWORK+='|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|ETIMEDOUT'
quietly() {
    "$@" >>"$LOG" 2>&1 </dev/null && return
    local cause
    say "this failed: $*" >&2
    if cause=$(grep -m 1 -oE "$NO_NETWORK" "$LOG"); then
        say "the cause: $cause. Is there a network, and does it need a proxy?" >&2
    elif cause=$(grep -m 1 -oE 'No space left on device|Permission denied' "$LOG"); then
        say "the cause: $cause" >&2
    fi
    grep -v WARNING "$LOG" | tail -n 4 | sed 's/^/    /' >&2
    say "all of it: $LOG" >&2
    return 1
}

# failed_recently PART: succeeds if it failed within the last hour. A later run tries it again. A
# file from the future, of a clock that was ahead, does not count.
failed_recently() {
    [ -n "$(find "$STATE/$1.failed" -mmin -60 ! -newermt now 2>/dev/null)" ]
}

# wait_for_lock DESCRIPTOR: lock an open file. Says so when it must wait.
wait_for_lock() {
    flock -n "$1" && return
    say "another set-up is at work here: waiting for its end"
    flock "$1"
}

# The words before a command that run it as root; empty where sudo is missing or needs a password.
if [ "$(id -u)" = 0 ]; then
    AS_ROOT=(env)
elif sudo -n true 2>/dev/null; then
    AS_ROOT=(sudo -n env)
else
    AS_ROOT=()
fi

# may_become_root: succeeds if this user is in a group that can use sudo with a password.
may_become_root() {
    command -v sudo >/dev/null && id -nG | grep -qwE 'sudo|wheel|admin'
}

# apt_install PACKAGE...: install from the system's own sources, or print the command.
apt_install() {
    if ! command -v apt-get >/dev/null; then
        say "missing packages, by their Debian names: $*. Install your system's own packages."
        return 1
    fi
    if [ ${#AS_ROOT[@]} = 0 ]; then
        if may_become_root; then
            say "missing packages of the system. Run this, then the same command again:"
            say "    sudo apt-get install $*"
        else
            say "only root can install: $*. Ask an administrator to run:"
            say "    apt-get install $*"
        fi
        return 1
    fi
    say "installing $* (apt-get)"
    local apt=("${AS_ROOT[@]}" DEBIAN_FRONTEND=noninteractive apt-get -q -y)
    quietly "${apt[@]}" install --no-install-recommends "$@" 2>/dev/null && return
    quietly "${apt[@]}" update && quietly "${apt[@]}" install --no-install-recommends "$@"
}

# in_place NEW TARGET: rename the folder NEW, unless another run has made TARGET meanwhile.
in_place() { mv -T "$1" "$2" 2>/dev/null || { [ -d "$2" ] && rm -rf "$1"; }; }

# runs INTERPRETER: succeeds if it is a MicroPython that starts.
runs() { [ -x "$1" ] && [ "$("$1" -c 'print(6*7)' 2>/dev/null)" = 42 ]; }
