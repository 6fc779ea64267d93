#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs a command in a root: enter.sh ROOT apt|run COMMAND...
#
# Started by roots.sh in fresh mount, PID, IPC, UTS and, for "run", network namespaces: what
# is mounted here vanishes with the last process. "run" gets a clean environment.
set -euo pipefail
root=$(realpath "$1")
use=$2
shift 2

mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys" 2>/dev/null || true
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
for node in null zero full random urandom tty; do
    touch "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
hostname orthanc-matrix

clean=(env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}"
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
# What this machine needs to reach its mirror, and what tunes the suite.
while IFS='=' read -r name value; do
    case "$name" in
    http_proxy | https_proxy | no_proxy | OPB_TEST_*) clean+=("$name=$value") ;;
    esac
done < <(env)

if [ "$use" = run ]; then
    cat >"$root/dev/loopback.py" <<'PYTHON'
import fcntl, socket, struct
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    name = b'lo'.ljust(16, b'\0')
    flags = struct.unpack_from('H', fcntl.ioctl(s, 0x8913, name + bytes(24)), 16)[0]
    fcntl.ioctl(s, 0x8914, name + struct.pack('H', flags | 1) + bytes(22))
PYTHON
    "${clean[@]}" chroot "$root" /usr/bin/python3 /dev/loopback.py
fi
# Not exec: this process is the first of its PID namespace, and reaps what is left to it.
status=0
"${clean[@]}" chroot "$root" /bin/sh -c 'cd /src 2>/dev/null; exec "$@"' sh "$@" || status=$?
exit $status
