#!/usr/bin/env bash
# Counts the instructions that the broker executes per message (valgrind's callgrind), a row a workload and a column a program. Unlike times,
# counts say the same on a busy machine; but they know nothing of the kernel, of caches, or of waiting.
#
#   scripts/bench-instructions.sh [PROGRAM ...]      programs to compare; without any, the one of this checkout is built
#   WORKLOADS="auto16 conf1k" MESSAGES=100000 scripts/bench-instructions.sh
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."
. scripts/bench-lib.sh

readonly WORKLOADS=${WORKLOADS:-auto16 ack100 2q1k fanout10 topic conf1k}
readonly MESSAGES=${MESSAGES:-50000}

start_leveret() {
  valgrind --tool=callgrind --callgrind-out-file="$WORK/callgrind" "$LEVERET" serve --data-dir "$WORK/data" \
    --amqp-listen "127.0.0.1:$AMQP_PORT" --metrics-listen '' --management-listen '' >"$WORK/log" 2>&1 &
  LAUNCHER_PID=$!
  BROKER_PID=$LAUNCHER_PID
}

# Instructions of a broker from start to stop for a workload of so many messages. Lines are few: the generator must not compete
# with callgrind for a core, so it is told a count and no time.
instructions() {
  local workload=$1 count=$2
  rm -rf "$WORK/data" "$WORK/callgrind"
  start_leveret
  # shellcheck disable=SC2046 # options are words
  timeout "$(remaining)" "$LEVERET" perf $(options "$workload") --count "$count" --quiet --uri "$URI" --wait-for-broker "$START_SECONDS_MAX" \
    >"$WORK/report" 2>&1 || die "$workload failed: $(tail -n 3 "$WORK/report")"
  stop_broker
  sed -n 's/^\(summary\|totals\): //p' "$WORK/callgrind" | head -n 1
}

# What more messages cost more: what starts, stops and warms up is in both.
per_message() {
  local few many
  few=$(instructions "$1" $((MESSAGES / 5)))
  many=$(instructions "$1" "$MESSAGES")
  echo $(((many - few) / (MESSAGES - MESSAGES / 5)))
}

install_packages valgrind
make_work_folder
programs=("$@")
if [ "${#programs[@]}" -eq 0 ]; then
  prepare_leveret
  programs=("$LEVERET")
fi
printf '%-10s' workload; printf ' %14s' "${programs[@]##*/}"; printf '\n'
for workload in $WORKLOADS; do
  printf '%-10s' "$workload"
  for LEVERET in "${programs[@]}"; do
    count=$(per_message "$workload")
    printf ' %14s' "$count"
  done
  printf '\n'
done
