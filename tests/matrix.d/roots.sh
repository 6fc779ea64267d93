# SPDX-License-Identifier: GPL-3.0-or-later
# Roots of Debian releases: made once by debootstrap, entered with namespaces of their own.
# Sourced by tests/matrix, in the top directory of the tree.
#
# Nothing is mounted outside of a private mount namespace, so nothing can stay mounted; no
# service is started; all processes of a run end with it.

cache=${XDG_CACHE_HOME:-/var/cache}/orthanc-python-bridge
# The Orthanc that the contract was verified with on testing; unstable steps in without it.
wanted_on_testing='1\.13\.'

say() {
    echo "== $*"
}

root_of() {
    echo "$cache/root-$1"
}

# The first mirror of Debian itself among this machine's own package sources.
own_mirror() {
    local codename
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-none}")
    {
        cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
            sed -nE 's/^deb +(\[[^]]*\] +)?([^ ]+) +([^ ]+) +(.*)$/\2 \3 \4/p'
        awk '
            function flush() { if (uri != "") print uri, suites, "-", components; uri = suites = components = "" }
            /^#/ { next }
            FNR == 1 || /^[ \t]*$/ { flush() }
            tolower($1) == "uris:" { uri = $2 }
            tolower($1) == "suites:" { suites = $2 }
            tolower($1) == "components:" { components = $2 }
            END { flush() }' /etc/apt/sources.list.d/*.sources 2>/dev/null
    } | awk -v codename="$codename" '
        $1 ~ /^(https?|file):/ && ($2 == codename || $2 ~ /^(stable|testing|unstable|sid)$/) && / main/ {
            print $1
            exit
        }'
}

find_mirror() {
    mirror=${OPB_MATRIX_MIRROR:-$(own_mirror)}
    if [ -z "$mirror" ]; then
        echo "tests/matrix: no Debian mirror in this machine's package sources;" \
            "name one: OPB_MATRIX_MIRROR=URL" >&2
        return 1
    fi
}

need_debootstrap() {
    if command -v debootstrap >/dev/null && command -v unshare >/dev/null; then
        return 0
    fi
    say "apt-get install debootstrap"
    export DEBIAN_FRONTEND=noninteractive
    if ! apt-cache show debootstrap >/dev/null 2>&1; then
        apt-get -q -o Acquire::Check-Valid-Until=false update
    fi
    apt-get -q install -y --no-install-recommends \
        debootstrap debian-archive-keyring util-linux && return 0
    echo "tests/matrix: debootstrap and unshare are missing; install debootstrap, util-linux" >&2
    return 1
}

# bootstrap SUITE DIRECTORY
bootstrap() {
    local suite=$1 root=$2 options=() script=
    if [ -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then
        options+=(--keyring=/usr/share/keyrings/debian-archive-keyring.gpg)
    fi
    # A mirror may be a snapshot whose Release file has expired; its signature is checked.
    if debootstrap --help 2>&1 | grep -q -e --no-check-valid-until; then
        options+=(--no-check-valid-until)
    fi
    if [ ! -e "/usr/share/debootstrap/scripts/$suite" ]; then
        script=/usr/share/debootstrap/scripts/sid # a release younger than this debootstrap
    fi
    say "debootstrap $suite (log: $root.log)"
    if ! timeout 1200 debootstrap --variant=minbase --include=ca-certificates "${options[@]}" \
        "$suite" "$root" "$mirror" $script >"$root.log" 2>&1; then
        tail -n 20 "$root.log" "$root/debootstrap/debootstrap.log" 2>/dev/null
        return 1
    fi
    rm -f "$root.log"
    prepare "$root"
}

# prepare ROOT: what a bare root needs before a package is installed in it.
prepare() {
    local root=$1
    printf '%s\n' 'Acquire::Check-Valid-Until "false";' 'Acquire::Languages "none";' \
        'APT::Install-Recommends "false";' \
        >"$root/etc/apt/apt.conf.d/99matrix"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no service starts
    chmod 755 "$root/usr/sbin/policy-rc.d"
    printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
    ln -sfn /proc/self/mounts "$root/etc/mtab"
}

# in_directory ROOT apt|run COMMAND...: see enter.sh.
in_directory() {
    local root=$1 use=$2 net=()
    shift 2
    if [ "$use" = run ] && unshare --net true 2>/dev/null; then
        net=(--net) # loopback only, and no port is taken
    fi
    if [ "$use" = apt ]; then
        cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    fi
    unshare --mount --propagation private --pid --fork --kill-child --ipc --uts "${net[@]}" \
        -- tests/matrix.d/enter.sh "$root" "$use" "$@"
}

# in_root RELEASE apt|run COMMAND...
in_root() {
    local root
    root=$(root_of "$1")
    shift
    in_directory "$root" "$@"
}

has_wanted_orthanc() {
    [[ $(in_directory "$1" apt apt-cache policy orthanc orthanc-python) =~ Candidate:\ $wanted_on_testing ]]
}

# base_root RELEASE: leaves a bare root at root_of RELEASE, or nothing.
base_root() {
    local name=$1 root suite suites
    root=$(root_of "$name")
    case "$name" in
    12) suites=bookworm ;;
    13) suites=trixie ;;
    testing) suites="testing unstable" ;;
    esac
    for suite in $suites; do
        rm -rf --one-file-system "$root.partial"
        bootstrap "$suite" "$root.partial" || return 1
        in_directory "$root.partial" apt apt-get -q update || return 1
        if [ "$name" != testing ] || has_wanted_orthanc "$root.partial"; then
            mv "$root.partial" "$root"
            return
        fi
        echo "Debian $suite has no Orthanc that matches $wanted_on_testing"
    done
    return 1
}

# The tests' own needs, in that release; nothing to do if the list is as it was.
install_packages() {
    local name=$1 root stamp
    root=$(root_of "$name")
    stamp=$(cksum <tests/install-deps)
    if [ "$is_updating" = yes ]; then
        say "Upgrade of the root for Debian $name"
        in_root "$name" apt sh -c 'apt-get -q update && apt-get -q -y dist-upgrade && apt-get clean' || return 1
    elif [ "$(cat "$root/var/lib/matrix-packages" 2>/dev/null)" = "$stamp" ]; then
        return 0
    fi
    say "Packages for Debian $name"
    mkdir -p "$root/matrix" && cp tests/install-deps "$root/matrix/" || return 1
    in_root "$name" apt /matrix/install-deps || return 1
    in_root "$name" apt apt-get clean
    echo "$stamp" >"$root/var/lib/matrix-packages"
}

# make_root RELEASE
make_root() {
    local name=$1 root
    root=$(root_of "$name")
    need_debootstrap && find_mirror || return 1
    mkdir -p "$cache" || return 1
    if [ "$is_fresh" = yes ] && [ -d "$root" ]; then
        say "Removing $root"
        rm -rf --one-file-system "$root" || return 1
    fi
    if [ ! -d "$root" ]; then
        base_root "$name" || return 1
    fi
    install_packages "$name"
}

list_files() {
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git ls-files -z --cached --others --exclude-standard
    else
        find . -path ./build -prune -o -type f -print0
    fi | while IFS= read -r -d '' file; do
        # A file that was removed but not yet from the index is still listed.
        [ -e "$file" ] && printf '%s\0' "$file"
    done
}

# keep_times ROOT: what is as it was keeps its time, the rest gets the time of now, for ninja:
# the tree before may have been another checkout.
keep_times() {
    local root=$1 file
    find "$root/src.new" -type f -printf '%P\0' | while IFS= read -r -d '' file; do
        if cmp -s "$root/src/$file" "$root/src.new/$file"; then
            touch -r "$root/src/$file" "$root/src.new/$file"
        else
            touch "$root/src.new/$file"
        fi
    done
}

# bring_pyright RELEASE: to that tree, since a run there has no network. Where it cannot be fetched,
# the run says so (NOT CHECKED); a wrong one is an error.
bring_pyright() {
    python3 tests/integration/fetch_pyright.py "$(root_of "$1")/src/build/pyright" >/dev/null
    [ $? -ne 1 ]
}

# copy_tree RELEASE: the tree as it is now, at /src; the build directory of the last run stays.
copy_tree() {
    local root
    root=$(root_of "$1")
    rm -rf "$root/src.new" && mkdir -p "$root/src.new" || return 1
    list_files | tar --null --no-recursion -T - -cf - |
        tar -C "$root/src.new" --no-same-owner -xf - || return 1
    keep_times "$root"
    if [ -d "$root/src/build" ]; then
        mv "$root/src/build" "$root/src.new/build" || return 1
    fi
    rm -rf "$root/src" && mv "$root/src.new" "$root/src"
}
