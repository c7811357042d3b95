# What scripts/bench.sh and scripts/bench-scaling.sh share: brokers to start and stop, the time there is, and the report's
# parts. Sourced from the repository's root.
# shellcheck shell=bash

# shellcheck source=scripts/rabbitmq-node.sh
. scripts/rabbitmq-node.sh

# The whole of a run, after the build, takes no longer than this.
readonly TIME_LIMIT_SECONDS=${TIME_LIMIT_SECONDS:-1200}
readonly OUT=${OUT:-BENCHMARKS.md}
readonly PLOTS=${PLOTS:-docs/benchmarks}
readonly AMQP_PORT=${AMQP_PORT:-5781} DIST_PORT=${DIST_PORT:-25781}
readonly URI=amqp://guest:guest@127.0.0.1:$AMQP_PORT/%2f
readonly RABBIT_HOME=/usr/lib/rabbitmq
# One measurement, however slow the machine or the broker.
readonly MEASUREMENT_SECONDS_MAX=240
# A broker that does not answer by then will not.
readonly START_SECONDS_MAX=120

BROKER_PID=
LAUNCHER_PID=

say() { printf 'bench: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Seconds that a measurement may take: what is left of the limit, 1 at least.
remaining() {
  local left=$((TIME_LIMIT_SECONDS - SECONDS))
  [ "$left" -le "$MEASUREMENT_SECONDS_MAX" ] || left=$MEASUREMENT_SECONDS_MAX
  echo $((left > 1 ? left : 1))
}

# Ends what still runs. Results that did not become a report are kept: they took long.
leave() {
  local status=$?
  stop_broker
  if [ "$status" -ne 0 ] && [ -s "$RESULTS" ]; then
    cp "$RESULTS" "$WORK.jsonl"
    say "the results until then are in $WORK.jsonl; RESULTS_FROM=$WORK.jsonl makes a report of them"
  fi
  rm -rf "$WORK"
}

# A folder for data and results, which goes with the script and everything it started.
make_work_folder() {
  WORK=$(mktemp -d "${BENCH_DIR:-/var/tmp}/leveret-bench.XXXXXX")
  RESULTS=$WORK/results.jsonl
  cat ${RESULTS_FROM:+"$RESULTS_FROM"} </dev/null >"$RESULTS"
  trap leave EXIT
  trap 'exit 130' INT TERM
}

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
    *)        die "there is no workload $1; docs/perf.md has their names" ;;
  esac
}

install_packages() {
  local missing=() package
  for package in "$@"; do
    case $package in
      rabbitmq-server) [ -x "$rabbitmq_server" ] || missing+=("$package") ;;
      *) command -v "$package" >/dev/null || missing+=("$package") ;;
    esac
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "missing: ${missing[*]} (Debian's names)"
  say "installing ${missing[*]}"
  local root=()
  [ "$(id -u)" -eq 0 ] || root=(sudo)
  { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q update &&
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q install --yes --no-install-recommends "${missing[@]}"; } >&2 </dev/null ||
    die "could not install ${missing[*]}"
}

# Builds Leveret unless LEVERET_BIN names a build. A copy is used: a build in another window must not change what is measured.
prepare_leveret() {
  if [ -z "${LEVERET_BIN:-}" ]; then
    make --no-print-directory build >&2
    LEVERET_BIN=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release/leveret
  fi
  LEVERET=$WORK/leveret
  cp "$LEVERET_BIN" "$LEVERET"
  SECONDS=0
}

start_leveret() {
  "$LEVERET" serve --data-dir "$WORK/data" --amqp-listen "127.0.0.1:$AMQP_PORT" --metrics-listen 127.0.0.1:0 \
    --management-listen 127.0.0.1:0 >"$WORK/log" 2>&1 &
  LAUNCHER_PID=$!
  BROKER_PID=$LAUNCHER_PID
}

# A node of its own: other name, ports and folders than one that runs as a service. No plugins.
start_rabbitmq() {
  mkdir -p "$WORK/data"
  echo '[].' >"$WORK/data/plugins"
  echo "listeners.tcp.1 = 127.0.0.1:$AMQP_PORT" >"$WORK/data/rabbitmq.conf"
  run_rabbitmq "$WORK/data" "leveret-bench-$$" "$DIST_PORT" >"$WORK/log" 2>&1 &
  LAUNCHER_PID=$!
  BROKER_PID=
}

# Starts a broker on an empty folder and notes how long that took and what it holds idle.
start_broker() {
  local broker=$1 round=$2 began took
  rm -rf "$WORK/data"
  began=$EPOCHREALTIME
  "start_$broker"
  "$LEVERET" perf connections --connections 0 --settle 0 --uri "$URI" --wait-for-broker "$START_SECONDS_MAX" >/dev/null 2>"$WORK/knock" ||
    die "$broker does not answer: $(cat "$WORK/knock") $(tail -n 5 "$WORK/log")"
  took=$(awk -v from="$began" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.3f\n", to - from }')
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

machine() {
  local model memory
  model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
  memory=$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)
  echo "$(nproc) x ${model:-$(uname -m)}, $memory, $(uname -s) $(uname -r | cut -d - -f 1), data on $(df --output=fstype "$WORK" | tail -n 1); load average at the start $(cut -d ' ' -f 1 /proc/loadavg)"
}

leveret_version() { echo "$("$LEVERET" --version), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"; }

# The part of the report between one heading of the second level and another, the second not included; without a second
# one to the end.
old_part() {
  [ -f "$OUT" ] || return 0
  awk -v from="$1" -v to="${2:-}" '$0 == from { on = 1 } to != "" && $0 == to { on = 0 } on' "$OUT"
}

# Puts the report together: comparison, scaling, and at the end what was measured by hand. What is not measured now stays.
write_report() {
  local comparison=$WORK/comparison.md scaling=$WORK/scaling.md
  [ -s "$comparison" ] || sed '/^## Scaling$/,$d; /^## Measured by hand$/,$d' "$OUT" >"$comparison" 2>/dev/null || echo "# Benchmarks" >"$comparison"
  [ -s "$scaling" ] || old_part '## Scaling' '## Measured by hand' >"$scaling"
  { cat "$comparison"
    if [ -s "$scaling" ]; then echo; cat "$scaling"; fi
    if [ -n "$(old_part '## Measured by hand')" ]; then echo; old_part '## Measured by hand'; fi
  } | cat -s >"$WORK/report.md"
  cp "$WORK/report.md" "$OUT"
  if [ -n "${KEEP_RESULTS:-}" ]; then cp "$RESULTS" "$KEEP_RESULTS"; fi
  say "wrote $OUT after $SECONDS seconds"
}
