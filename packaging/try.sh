#!/usr/bin/env bash
# Tries what the packages hold, as root: the unit, the manual pages and completions, the program as in the image (another user, no
# capabilities, read-only root), and, if there is a Debian package, its installation, upgrade and removal over a copy of this system.
# Nothing outside of namespaces and a temporary folder changes.  usage: packaging/try.sh PROGRAM [PACKAGE.deb]
set -euo pipefail

program=$(realpath "$1") package=${2:+$(realpath "$2")}
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ "$(id -u)" = 0 ] || { echo "packaging/try.sh needs root for its namespaces" >&2; exit 1; }

fail() { echo "FAILED: $*" >&2; exit 1; }
ok() { echo "ok $*"; }

# The unit and the socket, with the program where it is now.
for unit in leveret.service leveret.socket; do
    sed "s#/usr/bin/leveret#$program#" "$here/$unit" > "$work/$unit"
done
said=$(systemd-analyze verify "$work/leveret.service" "$work/leveret.socket" 2>&1) && [ -z "$said" ] || fail "the unit: $said"
ok "the unit"

"$program" man --directory "$work/man"
for page in "$work"/man/*.1; do
    said=$(LC_ALL=C.UTF-8 man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 > /dev/null) && [ -z "$said" ] || fail "$page: $said"
done
ok "$(find "$work/man" -name '*.1' | wc -l) manual pages"

"$program" completions bash > "$work/completions"
found=$(bash -c 'source "$1"; COMP_WORDS=(leveret ctl list_q) COMP_CWORD=2; _leveret leveret list_q ctl; echo "${COMPREPLY[@]}"' _ "$work/completions")
[ "$found" = list_queues ] || fail "completion of 'leveret ctl list_q': $found"
ok "completions"

# As in the image: the program, its libraries, and nothing else.
root=$work/root data=/var/lib/leveret
mkdir -p "$root"/{usr/bin,proc,dev,run} "$root$data"
cp "$program" "$root/usr/bin/leveret"
ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$root$(dirname "$library")" && cp -L "$library" "$root$library"
done
touch "$root"/dev/{null,urandom}
export root data
unshare --mount --pid --fork bash -euo pipefail -c '
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    for device in null urandom; do mount --bind "/dev/$device" "$root/dev/$device"; done
    mount -t tmpfs -o uid=65532,gid=65532,mode=700 tmpfs "$root$data"
    mount -o remount,ro,bind "$root"
    inside="env -i LEVERET_DATA_DIR=$data LEVERET_AMQP_LISTEN=127.0.0.1:0 LEVERET_MANAGEMENT_LISTEN=127.0.0.1:0 LEVERET_METRICS_LISTEN=127.0.0.1:0"
    inside="$inside $(command -v setpriv) --no-new-privs --bounding-set=-all,+setuid,+setgid,+sys_chroot $(command -v chroot) --userspec=65532:65532 $root /usr/bin/leveret"
    $inside serve 2> /dev/null & broker=$!
    $inside ctl await_startup
    grep -q "^CapEff:.*0000000000000000" "$root/proc/$broker/status"
    $inside ctl check_running > /dev/null
    kill -TERM "$broker"; wait "$broker"
' || fail "the program as another user on a read-only root"
ok "the program as in the image"

[ -n "$package" ] || exit 0
export package here
unshare --mount --net --pid --fork --propagation private bash -euo pipefail -c '
    work=$(dirname "$root")/overlay; mkdir "$work"
    mount -t tmpfs tmpfs "$work"; mkdir "$work"/{upper,scratch,root}
    mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/scratch" "$work/root"
    cp "$package" "$work/root/root/leveret.deb"
    cp "$here/operate.sh" "$work/root/root"
    mount -t tmpfs tmpfs "$work/root/run"
    ip link set lo up
    mount -t proc proc "$work/root/proc"; mount --rbind /dev "$work/root/dev"
    chroot "$work/root" bash -euo pipefail -c "
        dpkg -i /root/leveret.deb > /dev/null
        [ \"\$(stat -c %U:%G:%a /etc/leveret/leveret.toml)\" = root:leveret:640 ]
        [ \"\$(stat -c %U:%a /var/backups/leveret)\" = leveret:750 ]
        systemd-analyze verify leveret.service leveret.socket
        leveret config check /etc/leveret/leveret.toml > /dev/null
        man -w leveret-serve > /dev/null
        echo \"# mine\" >> /etc/leveret/leveret.toml
        dpkg -i --force-confold /root/leveret.deb > /dev/null
        tail -n 1 /etc/leveret/leveret.toml | grep -q mine
        /root/operate.sh
        dpkg --purge leveret > /dev/null
        [ ! -e /etc/leveret ] && [ ! -e /usr/bin/leveret ]
    "
' || fail "the package"
ok "the package"
