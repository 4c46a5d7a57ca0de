# Sourced beside lib.sh: packages fetched by apt with a state of its own. Mirror, proxy, credentials
# and keyring are the system's; its sources and its list of installed packages are not touched.

KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# The address of the Debian archive of the system's own release, as apt reads it from its sources.
mirror() {
    . /etc/os-release
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' \
        | awk -v own="${VERSION_CODENAME:-}" '
            $3 == "main" && ($2 == own || $2 == "stable" || $2 == "testing") { print $1; exit }'
}

# apt_folder: a new folder for apt's state, and its name; `downloads` in it is for `apt-get download`.
# Below a home that is root's alone, apt could not fetch as its user without rights (_apt), and
# would fetch as root.
apt_folder() {
    local folder
    folder=$(mktemp -d "${TMPDIR:-/tmp}/plugvault-apt-XXXXXX")
    mkdir "$folder/downloads"
    chmod 755 "$folder"
    [ "$(id -u)" != 0 ] || chown _apt "$folder/downloads" 2>/dev/null || true
    echo "$folder"
}

# private_apt STATE STATUS ARCHITECTURE [SUITE]: let apt-get keep its lists and archives in the
# folder STATE, and take the packages of the file STATUS for installed. SUITE: read Debian's archive
# of this name, sources included; without it the system's own sources.
private_apt() {
    local state=$1 status=$2 architecture=$3 suite=${4:-} kind
    mkdir -p "$state"/{lists,archives}/partial "$state/empty"
    cat >"$state/apt.conf" <<CONF
Dir::State "$state";
Dir::State::lists "lists";
Dir::State::status "$status";
Dir::Cache "$state";
Dir::Cache::archives "archives";
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Install-Recommends "false";
APT::Update::Error-Mode "any";
Acquire::Retries "2";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
CONF
    if [ -n "$suite" ]; then
        for kind in deb deb-src; do
            echo "$kind [signed-by=$KEYRING] $(mirror) $suite main"
        done >"$state/sources.list"
        cat >>"$state/apt.conf" <<CONF
Dir::Etc::sourcelist "$state/sources.list";
Dir::Etc::sourceparts "$state/empty";
Dir::Etc::preferences "$state/empty";
Dir::Etc::preferencesparts "$state/empty";
CONF
    fi
    export APT_CONFIG=$state/apt.conf
    quietly apt-get -q update
}
