#!/usr/bin/env bash
# Runs small programs of other people's AMQP clients against a leveret that this script starts, or against AMQP_URL.
#
# Each client is installed by the package manager of its own ecosystem into a cache folder, so a second run is quick:
# ${LEVERET_CACHE_DIR:-$HOME/.cache/leveret}/interop. A client whose toolchain is missing is skipped, and named.
# `run.sh pika celery` runs only these.
set -euo pipefail
cd "$(dirname "$0")/.."
. rabbitmq-tutorials/start-broker.sh

readonly install_seconds=600 run_seconds=180
readonly rabbitmqadmin_ng=2.35.0
readonly here=$PWD/interop
readonly cache=${LEVERET_CACHE_DIR:-$HOME/.cache/leveret}/interop
mkdir -p "$cache"
work=$(mktemp -d)
broker_pid=
passed=0 failed=0 skipped=0

# Ends the broker this script has started, by process id, and nothing else.
clean_up() {
    [ -z "$broker_pid" ] || { kill "$broker_pid" 2>/dev/null || true; wait "$broker_pid" || true; }
    rm -rf "$work"
}
trap clean_up EXIT

# fingerprint FILES...: changes when one of the files does.
fingerprint() { cat "$@" | sha256sum | cut -c 1-16; }

# missing TOOLS...: prints the first that is not installed.
missing() {
    local tool
    for tool in "$@"; do command -v "$tool" >/dev/null || { echo "$tool"; return; }; done
}

# Each client has two functions: install_CLIENT prepares the cache folder, run_CLIENT runs the program.

python_environment() {
    local environment
    environment=$cache/$1-$(fingerprint "$here/$1/requirements.txt")
    if [ ! -e "$environment/complete" ]; then
        rm -rf "$environment"
        python3 -m venv "$environment"
        "$environment/bin/pip" install --quiet --disable-pip-version-check -r "$here/$1/requirements.txt"
        touch "$environment/complete"
    fi
}
run_python() {
    PYTHONDONTWRITEBYTECODE=1 "$cache/$1-$(fingerprint "$here/$1/requirements.txt")/bin/python" "$here/$1/interop.py"
}
install_pika() { python_environment pika; }
run_pika() { run_python pika; }
install_celery() { python_environment celery; }
run_celery() { run_python celery; }

# node_folder CLIENT: where its libraries are.
node_folder() { echo "$cache/$1-$(fingerprint "$here/$1"/package*.json)"; }
node_libraries() {
    local folder
    folder=$(node_folder "$1")
    if [ ! -e "$folder/complete" ]; then
        rm -rf "$folder"
        mkdir -p "$folder"
        cp "$here/$1"/package*.json "$folder"
        npm ci --prefix "$folder" --no-audit --no-fund --silent
        touch "$folder/complete"
    fi
}
install_amqplib() { node_libraries amqplib; }
run_amqplib() { NODE_PATH=$(node_folder amqplib)/node_modules node "$here/amqplib/interop.js"; }
install_pages() { node_libraries pages; }
run_pages() { NODE_PATH=$(node_folder pages)/node_modules node "$here/pages/pages.mjs"; }

install_amqp091_go() {
    GOMODCACHE=$cache/go/modules GOCACHE=$cache/go/build GOFLAGS=-modcacherw \
        go build -C "$here/amqp091-go" -o "$cache/go/interop" .
}
run_amqp091_go() { "$cache/go/interop"; }

install_java() {
    mvn --quiet --batch-mode -Dstyle.color=never --file "$here/java/pom.xml" -Dmaven.repo.local="$cache/java/repository" \
        -Dinterop.build="$cache/java/build" compile dependency:copy-dependencies \
        -DoutputDirectory="$cache/java/build/libraries"
}
run_java() { java -cp "$cache/java/build/classes:$cache/java/build/libraries/*" Interop; }

install_rabbit_hole() {
    GOMODCACHE=$cache/go/modules GOCACHE=$cache/go/build GOFLAGS=-modcacherw \
        go build -C "$here/rabbit-hole" -o "$cache/go/rabbit-hole" .
}
run_rabbit_hole() { "$cache/go/rabbit-hole"; }
install_amqpstorm() { python_environment amqpstorm; }
run_amqpstorm() { run_python amqpstorm; }
install_rabbitmqadmin_ng() {
    local folder=$cache/rabbitmqadmin-ng-$rabbitmqadmin_ng
    [ -x "$folder/bin/rabbitmqadmin" ] || cargo install --quiet --locked --root "$folder" "rabbitmqadmin@$rabbitmqadmin_ng"
}
run_rabbitmqadmin_ng() { "$here/rabbitmqadmin-ng/interop.sh" "$cache/rabbitmqadmin-ng-$rabbitmqadmin_ng/bin/rabbitmqadmin"; }
install_rabbitmqadmin() { true; }
run_rabbitmqadmin() { "$here/rabbitmqadmin/interop.sh"; }

# bounded SECONDS FUNCTION: runs a function of this script in a process of its own that is ended when the time is up.
bounded() {
    export here cache rabbitmqadmin_ng
    timeout --kill-after=10 "$1" bash -euo pipefail -c "$(declare -f); $2"
}

# client NAME FUNCTION_SUFFIX TOOLS...
client() {
    local name=$1 suffix=$2 tool
    shift 2
    if [ "${#only[@]}" -gt 0 ] && [[ " ${only[*]} " != *" $name "* ]]; then return; fi
    tool=$(missing "$@")
    if [ -n "$tool" ]; then
        echo "skipped $name: $tool is not installed"
        skipped=$((skipped + 1))
        return
    fi
    echo "$name"
    if bounded "$install_seconds" "install_$suffix" && bounded "$run_seconds" "run_$suffix"; then
        passed=$((passed + 1))
    else
        echo "FAILED $name"
        failed=$((failed + 1))
    fi
}

only=("$@")
[ -n "${AMQP_URL:-}" ] || start_broker "$work"

client pika pika python3
client amqplib amqplib node npm
client amqp091-go amqp091_go go
client java java java mvn
client celery celery python3
# Clients of the management API, which an external broker need not have.
if [ -n "${MANAGEMENT_URL:-}" ]; then
    client rabbitmqadmin rabbitmqadmin rabbitmqadmin python3
    client rabbitmqadmin-ng rabbitmqadmin_ng cargo
    client rabbit-hole rabbit_hole go
    client amqpstorm amqpstorm python3
    client pages pages node npm
fi

echo "$passed passed, $failed failed, $skipped skipped"
if [ "$failed" -gt 0 ]; then
    [ -z "$broker_pid" ] || { echo 'The broker wrote last:'; tail -n 40 "$work/broker.log"; }
    exit 1
fi
[ "$((passed + skipped))" -gt 0 ]
