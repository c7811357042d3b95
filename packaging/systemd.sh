#!/usr/bin/env bash
# Starts the unit with a real systemd: one of its own, as pid 1 of namespaces over a copy of this system, with the package installed
# in it. Nothing outside of the namespaces, of a temporary folder and of a control group of its own changes.
# As root.  usage: packaging/systemd.sh PACKAGE.deb
set -euo pipefail

package=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
skip() { echo "SKIPPED the unit under systemd: $*"; exit 0; }
[ "$(id -u)" = 0 ] || skip "it needs root for its namespaces"
systemd=/usr/lib/systemd/systemd
[ -x "$systemd" ] || skip "systemd is not installed"
hierarchy=$(findmnt --noheadings --first-only --types cgroup2 --output TARGET || true)
[ -n "$hierarchy" ] || skip "there are no control groups of version 2 here"
group=$hierarchy/leveret-try-$$
mkdir "$group" 2> /dev/null || skip "no control group can be made in $hierarchy"

work=$(mktemp -d)
clean() {
    # Whatever is left in the group is ours.
    echo 1 > "$group/cgroup.kill" 2> /dev/null || true
    for _ in $(seq 50); do grep -q 'populated 0' "$group/cgroup.events" && break; sleep 0.1; done
    find "$group" -depth -type d -exec rmdir {} + || true
    rm -rf "$work"
}
trap clean EXIT

cat > "$work/boot.sh" <<'END'
set -euo pipefail
root=$work/overlay/root
mkdir "$work/overlay"
mount -t tmpfs tmpfs "$work/overlay"
mkdir "$work"/overlay/{upper,scratch,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/overlay/upper,workdir=$work/overlay/scratch" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
mkdir "$root/dev/pts" "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
# Packages may start and stop services here, whatever holds outside.
rm -f "$root/usr/sbin/policy-rc.d"
ip link set lo up
hostname leveret-try
cp "$package" "$root/root/leveret.deb"
cp "$here/systemd-inside.sh" "$root/root/inside.sh"
od -An -tx1 -N16 /dev/urandom | tr -d ' \n' > "$root/etc/machine-id"
cat > "$root/etc/systemd/system/try.service" <<UNIT
[Unit]
After=basic.target
[Service]
Type=oneshot
ExecStart=/root/inside.sh
ExecStopPost=/bin/sh -c 'echo "\$EXIT_STATUS" > /root/status; systemctl --no-block exit \$EXIT_STATUS'
StandardOutput=file:/root/said
StandardError=file:/root/said
UNIT
printf '[Unit]\nRequires=basic.target try.service\nAllowIsolate=yes\n' > "$root/etc/systemd/system/try.target"
# What else this system has to offer is not what is tried.
for unit in systemd-timesyncd.service systemd-networkd.service apparmor.service dev-hugepages.mount dev-mqueue.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
touch "$root/root/said"
mount --bind "$work/said" "$root/root/said"
cd "$root"
pivot_root . mnt
umount -l /mnt
exec env -i container=leveret-try PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$systemd" --system --unit=try.target --log-target=journal
END
touch "$work/said"
export work package here systemd
status=0
(
    echo "$BASHPID" > "$group/cgroup.procs"
    exec timeout --kill-after=5 240 unshare --mount --pid --net --uts --ipc --cgroup --fork --propagation private bash "$work/boot.sh"
) || status=$?
cat "$work/said"
[ "$status" = 0 ] || { echo; echo "FAILED: the unit under systemd (status $status)" >&2; exit 1; }
