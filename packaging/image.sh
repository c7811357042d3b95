#!/usr/bin/env bash
# Builds the last stage of the Dockerfile around a program that is there already, on a base made of this system's libraries, and runs
# the image: as the user it names, on a read-only root, with its health check. Needs buildah, root and no registry; everything is
# in namespaces and a temporary folder.  usage: packaging/image.sh PROGRAM
set -euo pipefail

program=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
skip() { echo "SKIPPED the image: $*"; exit 0; }
[ "$(id -u)" = 0 ] || skip "it needs root for its namespaces"
command -v buildah > /dev/null || skip "buildah is not installed (apt install --no-install-recommends buildah)"
if [ -z "${TRY_INSIDE-}" ]; then
    # A network and mounts of its own.
    TRY_INSIDE=yes exec unshare --mount --net --pid --fork --mount-proc --propagation private "$0" "$@"
fi
ip link set lo up
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; [ ! -e "$work/log" ] || tail -n 20 "$work/log" >&2; exit 1; }
ok() { echo "ok $*"; }
image() { local command=$1; shift; buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs "$command" "$@"; }

# As gcr.io/distroless/cc: libraries, a user, nothing to run.
mkdir -p "$work"/base/{etc,tmp,usr/bin} "$work"/built/image/data
chmod 1777 "$work/base/tmp"
printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' > "$work/base/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' > "$work/base/etc/group"
ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$work/base$(dirname "$library")" && cp -L "$library" "$work/base$library"
done
base=$(image from scratch)
image copy --quiet "$base" "$work/base" / > /dev/null
image commit --quiet "$base" localhost/leveret-base > /dev/null
cp "$program" "$work/built/image/leveret"
strip "$work/built/image/leveret"

sed '1,/^RUN cargo/d; 0,/^FROM .*/s//FROM localhost\/leveret-base/' "$here/Dockerfile" | sed -n '/^FROM/,$p' > "$work/Dockerfile"
grep -q '^ENTRYPOINT' "$work/Dockerfile" || fail "the Dockerfile has another form now: $(cat "$work/Dockerfile")"
image build --quiet --isolation chroot --format docker --pull-never --build-context build="$work/built" \
    --file "$work/Dockerfile" --tag localhost/leveret "$work/built" > /dev/null 2> "$work/log" || fail "the image is not built"
size=$(image images --format '{{.Size}}' localhost/leveret)
ok "the image, of $size"

of() { image inspect --type image --format "{{$1}}" localhost/leveret; }
[ "$(of .Docker.Config.User)" = 65532:65532 ] || fail "its user is $(of .Docker.Config.User)"
[ "$(of .Docker.Config.StopSignal)" = SIGTERM ] || fail "it is stopped by $(of .Docker.Config.StopSignal)"
[ "$(of .Docker.Config.Healthcheck.Test)" = "[CMD /usr/bin/leveret ctl check_running]" ] || fail "its health check: $(of .Docker.Config.Healthcheck.Test)"

container=$(image from --pull-never localhost/leveret)
root=$(image mount "$container")
[ "$(stat -c %u:%g "$root/var/lib/leveret")" = 65532:65532 ] || fail "/var/lib/leveret is of $(stat -c %u:%g "$root/var/lib/leveret")"
# With a volume, as `docker run -v`.
mkdir "$work/data" && chown 65532:65532 "$work/data"
run() { image run --isolation chroot --cap-drop all --volume "$work/data:/var/lib/leveret" "$container" -- "$@"; }
run /usr/bin/leveret serve 2> "$work/log" & broker=$!
for _ in $(seq 100); do run /usr/bin/leveret ctl check_running > "$work/health" 2>&1 && break; sleep 0.1; done
run /usr/bin/leveret ctl check_running > "$work/health" 2>&1 || fail "its health check: $(cat "$work/health")"
process=$(pgrep -f '^/usr/bin/leveret serve' | head -n 1)
grep -q "^Uid:	65532	65532" "/proc/$process/status" || fail "it runs as another user: $(grep Uid "/proc/$process/status")"
grep -q "^CapEff:	0000000000000000" "/proc/$process/status" || fail "it has capabilities"
curl -sf http://127.0.0.1:15672/health/ready > /dev/null || fail "it is not ready"
[ -d "$work/data/db" ] || fail "its data is not in the volume"
ok "the image runs without rights, and is healthy"
kill -TERM "$process"
wait "$broker" || fail "it does not end with 0"
if run /usr/bin/leveret ctl check_running > /dev/null 2>&1; then fail "healthy without a broker"; fi
ok "the image stops in order"
