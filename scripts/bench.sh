#!/usr/bin/env bash
# Measures Leveret beside RabbitMQ on this machine with `leveret perf`, and writes BENCHMARKS.md. One broker runs at a time; the
# brokers take turns, round by round, so that a slow moment of the machine meets both.
#
#   ROUNDS=3 SECONDS_EACH=4 WORKLOADS="auto16 conf1k" OUT=BENCHMARKS.md scripts/bench.sh
#   LEVERET_BIN=path/to/leveret measures another build; NOTE="..." adds a sentence about the machine to the report.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly ROUNDS=${ROUNDS:-3} SECONDS_EACH=${SECONDS_EACH:-4} OUT=${OUT:-BENCHMARKS.md}
# Idle memory comes first: what a broker keeps from earlier work would hide it.
readonly ALL_WORKLOADS="idle auto16 ack100 2q1k fanout10 topic conf1k conf1k8p conf1 lat5k filldrain"
readonly WORKLOADS=${WORKLOADS:-$ALL_WORKLOADS}
# After so many seconds no further round begins.
readonly TIME_LIMIT_SECONDS=${TIME_LIMIT_SECONDS:-1080}
readonly AMQP_PORT=${AMQP_PORT:-5781} DIST_PORT=${DIST_PORT:-25781}
readonly URI=amqp://guest:guest@127.0.0.1:$AMQP_PORT/%2f
readonly RABBIT_HOME=/usr/lib/rabbitmq

say() { printf 'bench: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

WORK=$(mktemp -d "${BENCH_DIR:-/var/tmp}/leveret-bench.XXXXXX")
RESULTS=$WORK/results.jsonl
BROKER_PID=
LAUNCHER_PID=
trap 'stop_broker; rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM

# The generator's options for a workload; the names are those of the tables in docs/perf.md.
options() {
  case $1 in
    auto16)   echo throughput --size 16 ;;
    ack100)   echo throughput --size 100 --prefetch 200 --ack-every 1 ;;
    2q1k)     echo throughput --size 1024 --queues 2 --publishers 2 --consumers 2 --prefetch 200 --ack-every 10 ;;
    fanout10) echo throughput --size 100 --exchange fanout --queues 10 --consumers 10 ;;
    topic)    echo throughput --size 100 --exchange topic --queues 4 --consumers 4 --extra-bindings 1000 ;;
    conf1k)   echo throughput --size 1024 --persistent --confirm 1000 --prefetch 200 --ack-every 10 ;;
    conf1k8p) echo throughput --size 1024 --persistent --confirm 200 --queues 8 --publishers 8 --consumers 8 --prefetch 200 --ack-every 10 ;;
    conf1)    echo throughput --size 100 --persistent --confirm 1 --consumers 0 ;;
    lat5k)    echo latency --rate 5000 --size 100 --prefetch 200 --ack-every 1 ;;
    filldrain) echo fill-drain --count 500000 --size 100 --persistent ;;
    idle)     echo connections --connections 3000 --queue --consumer ;;
    *)        die "there is no workload $1; there are: $ALL_WORKLOADS" ;;
  esac
}

# Seconds a workload is measured; those that end by themselves take none.
timing() {
  case $1 in
    filldrain) echo --quiet ;;
    idle)      echo --quiet --settle 2 ;;
    *)         echo --quiet --warm-up 1 --duration "$SECONDS_EACH" ;;
  esac
}

install_packages() {
  local missing=()
  [ -x "$RABBIT_HOME/bin/rabbitmq-server" ] || missing+=(rabbitmq-server)
  command -v jq >/dev/null || missing+=(jq)
  [ "${#missing[@]}" -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "missing: ${missing[*]} (Debian's names)"
  say "installing ${missing[*]}"
  local root=()
  [ "$(id -u)" -eq 0 ] || root=(sudo)
  { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q update &&
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q install --yes --no-install-recommends "${missing[@]}"; } >&2 </dev/null ||
    die "could not install ${missing[*]}"
}

answers() { "$LEVERET" perf connections --connections 0 --settle 0 --uri "$URI" >/dev/null 2>&1; }

# Waits until the broker answers AMQP, and prints how many seconds that took since the start given.
await_broker() {
  local deadline=$((SECONDS + 180)) began=$1
  until answers; do
    [ "$SECONDS" -lt "$deadline" ] || die "the broker did not start; see its log: $(tail -n 5 "$WORK/log")"
    kill -0 "$LAUNCHER_PID" 2>/dev/null || die "the broker ended: $(tail -n 5 "$WORK/log")"
    sleep 0.02
  done
  awk -v from="$began" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.2f\n", to - from }'
}

start_leveret() {
  "$LEVERET" serve --data-dir "$WORK/data" --amqp-listen "127.0.0.1:$AMQP_PORT" --metrics-listen 127.0.0.1:0 >"$WORK/log" 2>&1 &
  LAUNCHER_PID=$!
  BROKER_PID=$LAUNCHER_PID
}

# A node of its own: other name, ports and folders than one that runs as a service. No plugins.
start_rabbitmq() {
  mkdir -p "$WORK/data"
  echo '[].' >"$WORK/data/plugins"
  echo "listeners.tcp.1 = 127.0.0.1:$AMQP_PORT" >"$WORK/data/rabbitmq.conf"
  env HOME="$WORK/data" RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE="$WORK/data/rabbitmq" RABBITMQ_NODENAME="leveret-bench-$$@localhost" \
    RABBITMQ_DIST_PORT="$DIST_PORT" RABBITMQ_MNESIA_BASE="$WORK/data" RABBITMQ_LOG_BASE="$WORK/data" RABBITMQ_ENABLED_PLUGINS_FILE="$WORK/data/plugins" \
    RABBITMQ_PID_FILE="$WORK/data/pid" ERL_EPMD_ADDRESS=127.0.0.1 \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}" \
    "$RABBIT_HOME/bin/rabbitmq-server" >"$WORK/log" 2>&1 &
  LAUNCHER_PID=$!
  BROKER_PID=
}

# Starts a broker on an empty folder and notes how long that took and what it holds idle.
start_broker() {
  local broker=$1 round=$2 began took
  rm -rf "$WORK/data"
  began=$EPOCHREALTIME
  "start_$broker"
  took=$(await_broker "$began")
  [ -n "$BROKER_PID" ] || BROKER_PID=$(cat "$WORK/data/pid")
  sleep 1
  "$LEVERET" perf connections --connections 0 --settle 0 --uri "$URI" --broker-pid "$BROKER_PID" --json |
    jq -c --arg broker "$broker" --argjson round "$round" --argjson took "$took" \
      '{broker: $broker, round: $round, workload: "start", start_seconds: $took, idle_bytes: .memory.before_bytes}' >>"$RESULTS"
}

stop_broker() {
  [ -n "$LAUNCHER_PID" ] || return 0
  kill -TERM "${BROKER_PID:-$LAUNCHER_PID}" 2>/dev/null || true
  local deadline=$((SECONDS + 30))
  while kill -0 "$LAUNCHER_PID" 2>/dev/null; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      kill -KILL "${BROKER_PID:-$LAUNCHER_PID}" "$LAUNCHER_PID" 2>/dev/null || true
      break
    fi
    sleep 0.1
  done
  wait "$LAUNCHER_PID" 2>/dev/null || true
  LAUNCHER_PID= BROKER_PID=
}

measure() {
  local broker=$1 round=$2 workload=$3 report
  # shellcheck disable=SC2046 # options are words
  if ! report=$(timeout 300 "$LEVERET" perf $(options "$workload") $(timing "$workload") --uri "$URI" --broker-pid "$BROKER_PID" --json); then
    say "round $round, $broker, $workload: failed"
    return 0
  fi
  jq -c --arg broker "$broker" --argjson round "$round" --arg workload "$workload" \
    '{broker: $broker, round: $round, workload: $workload, report: .}' <<<"$report" >>"$RESULTS"
  say "round $round, $broker, $workload: $(jq -r 'if .fill then "\(.fill.published_per_second)/s, \(.drain.received_per_second)/s"
    elif .memory then "\(.memory.per_connection_bytes) octets" else "\(.received_per_second)/s received, \(.published_per_second)/s published" end' <<<"$report")"
}

run_rounds() {
  local round broker workload order
  for ((round = 1; round <= ROUNDS; round++)); do
    if [ "$round" -gt 1 ] && [ "$SECONDS" -gt "$TIME_LIMIT_SECONDS" ]; then
      say "the time is over after $((round - 1)) rounds"
      return
    fi
    order="rabbitmq leveret"
    [ $((round % 2)) -eq 1 ] || order="leveret rabbitmq"
    for broker in $order; do
      start_broker "$broker" "$round"
      for workload in $WORKLOADS; do
        measure "$broker" "$round" "$workload"
      done
      stop_broker
    done
  done
}

# Milliseconds that one small synchronous write takes on the disk of the data folder.
sync_millis() {
  local began=$EPOCHREALTIME count=500
  dd if=/dev/zero of="$WORK/probe" bs=512 count=$count oflag=dsync conv=notrunc 2>/dev/null
  awk -v from="$began" -v to="$EPOCHREALTIME" -v count=$count 'BEGIN { printf "%.2f\n", (to - from) * 1000 / count }'
}

machine() {
  local model memory
  model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
  memory=$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)
  echo "$(nproc) x ${model:-$(uname -m)}, $memory, $(uname -s) $(uname -r | cut -d - -f 1), data on $(df --output=fstype "$WORK" | tail -n 1); a synchronous write of 512 octets takes $1 ms there (mean of 500); load average at the start $2"
}

rabbitmq_version() {
  echo "RabbitMQ $(dpkg-query -W -f '${Version}' rabbitmq-server 2>/dev/null || basename "$RABBIT_HOME"/lib/rabbitmq_server-*) on Erlang $(dpkg-query -W -f '${Version}' erlang-base 2>/dev/null || echo of unknown version)"
}

commands() {
  local workload
  for workload in $WORKLOADS; do
    echo "leveret perf $(options "$workload") $(timing "$workload")  # $workload"
  done
}

write_report() {
  jq -rs --arg machine "$MACHINE" --arg rabbitmq "$(rabbitmq_version)" --arg leveret "$("$LEVERET" --version), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)" \
    --arg commands "$(commands)" --arg date "$(date -u +%F)" --arg note "${NOTE:-}" --arg seconds "$SECONDS_EACH" -f scripts/bench-report.jq "$RESULTS" >"$WORK/report.md"
  # What was measured by hand stands at the end of the page and stays.
  if [ -f "$OUT" ]; then
    sed -n '/^## Measured by hand$/,$p' "$OUT" >"$WORK/by-hand.md"
    if [ -s "$WORK/by-hand.md" ]; then { echo; cat "$WORK/by-hand.md"; } >>"$WORK/report.md"; fi
  fi
  cp "$WORK/report.md" "$OUT"
  if [ -n "${KEEP_RESULTS:-}" ]; then cp "$RESULTS" "$KEEP_RESULTS"; fi
  say "wrote $OUT"
}

install_packages
if [ -z "${LEVERET_BIN:-}" ]; then
  make --no-print-directory build >&2
  LEVERET_BIN=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release/leveret
fi
# A copy: a build in another window must not change what is measured.
readonly LEVERET=$WORK/leveret
cp "$LEVERET_BIN" "$LEVERET"
for workload in $WORKLOADS; do options "$workload" >/dev/null; done
MACHINE=$(machine "$(sync_millis)" "$(cut -d ' ' -f 1 /proc/loadavg)")
readonly MACHINE
run_rounds
write_report
