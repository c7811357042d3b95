#!/usr/bin/env bash
# Measures Leveret beside RabbitMQ on this machine with `leveret perf`, then how Leveret's cost grows with its work
# (scripts/bench-scaling.sh), and writes BENCHMARKS.md with its plots. One broker runs at a time; the brokers take turns, round
# by round, so that a slow moment of the machine meets both.
#
#   ROUNDS=3 SECONDS_EACH=4 WORKLOADS="auto16 conf1k" SCALING=no OUT=BENCHMARKS.md scripts/bench.sh
#   LEVERET_BIN=path/to/leveret measures another build; NOTE="..." adds a sentence about the machine to the report;
#   KEEP_RESULTS=file keeps every single report, RESULTS_FROM=file measures nothing and reports those; TIME_LIMIT_SECONDS bounds
#   the whole.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/bench-lib.sh
. scripts/bench-scaling.sh

readonly ROUNDS=${ROUNDS:-3} SECONDS_EACH=${SECONDS_EACH:-4}
# Idle memory comes first: what a broker keeps from earlier work would hide it.
readonly ALL_WORKLOADS="idle auto16 ack100 2q1k fanout10 topic conf1k conf1k8p conf1 lat5k filldrain"
readonly WORKLOADS=${WORKLOADS:-$ALL_WORKLOADS}

# Seconds a workload is measured; those that end by themselves take none.
timing() {
  case $1 in
    filldrain) echo --quiet ;;
    idle)      echo --quiet --settle 2 ;;
    *)         echo --quiet --warm-up 1 --duration "$SECONDS_EACH" ;;
  esac
}

measure() {
  local broker=$1 round=$2 workload=$3 report
  # shellcheck disable=SC2046 # options are words
  if ! report=$(timeout "$(remaining)" "$LEVERET" perf $(options "$workload") $(timing "$workload") --uri "$URI" --broker-pid "$BROKER_PID" --json); then
    say "round $round, $broker, $workload: failed"
    return 0
  fi
  jq -c --arg broker "$broker" --argjson round "$round" --arg workload "$workload" \
    '{broker: $broker, round: $round, workload: $workload, report: .}' <<<"$report" >>"$RESULTS"
  say "round $round, $broker, $workload: $(jq -r 'if .fill then "\(.fill.published_per_second)/s, \(.drain.received_per_second)/s"
    elif .memory then "\(.memory.per_connection_bytes) octets" else "\(.received_per_second)/s received, \(.published_per_second)/s published" end' <<<"$report")"
}

# What the disk alone takes for one small durable write, next to the confirms that wait for such a one.
measure_sync() {
  timeout "$(remaining)" "$LEVERET" perf sync --dir "$WORK/data" --count 500 --json |
    jq -c --arg broker "$1" --argjson round "$2" '{broker: $broker, round: $round, workload: "sync", report: .}' >>"$RESULTS" ||
    say "round $2, $1, sync: failed"
}

run_round() {
  local round=$1 order="rabbitmq leveret" broker workload
  [ $((round % 2)) -eq 1 ] || order="leveret rabbitmq"
  for broker in $order; do
    start_broker "$broker" "$round"
    for workload in $WORKLOADS; do
      if [ "$workload" = conf1 ]; then measure_sync "$broker" "$round"; fi
      measure "$broker" "$round" "$workload"
      if [ "$workload" = conf1 ]; then measure_sync "$broker" "$round"; fi
    done
    stop_broker
  done
}

# No round begins that could not end in time, by what the longest took, nor one that takes the time of the scaling.
run_rounds() {
  local round began longest=0 reserve=0
  [ "${SCALING:-yes}" = no ] || reserve=$SCALING_SECONDS_MAX
  for ((round = 1; round <= ROUNDS; round++)); do
    if [ $((SECONDS + longest + reserve)) -gt "$TIME_LIMIT_SECONDS" ]; then
      say "the time is over after $((round - 1)) rounds"
      return
    fi
    began=$SECONDS
    run_round "$round"
    [ $((SECONDS - began)) -le "$longest" ] || longest=$((SECONDS - began))
  done
}

rabbitmq_version() {
  echo "RabbitMQ $(dpkg-query -W -f '${Version}' rabbitmq-server 2>/dev/null || basename "$RABBIT_HOME"/lib/rabbitmq_server-*) on Erlang $(dpkg-query -W -f '${Version}' erlang-base 2>/dev/null || echo of unknown version)"
}

commands() {
  local workload
  for workload in $WORKLOADS; do
    echo "leveret perf $(options "$workload") $(timing "$workload")  # $workload"
    if [ "$workload" = conf1 ]; then echo "leveret perf sync --dir DATA --count 500  # before and after conf1"; fi
  done
}

write_comparison() {
  jq -rs --arg machine "$MACHINE" --arg rabbitmq "$(rabbitmq_version)" --arg leveret "$(leveret_version)" --arg commands "$(commands)" \
    --arg date "$(date -u +%F)" --arg note "${NOTE:-}" --arg seconds "$SECONDS_EACH" -L scripts -f scripts/bench-report.jq "$RESULTS" >"$WORK/comparison.md"
}

for workload in $WORKLOADS; do options "$workload" >/dev/null; done
make_work_folder
install_packages rabbitmq-server jq
prepare_leveret
MACHINE=$(machine)
readonly MACHINE
[ -n "${RESULTS_FROM:-}" ] || run_rounds
write_comparison
if [ "${SCALING:-yes}" != no ]; then
  [ -n "${RESULTS_FROM:-}" ] || measure_scaling
  write_scaling
fi
write_report
