#!/usr/bin/env bash
# Measures how Leveret's cost per message grows with its work, and draws it: run alone, or sourced by scripts/bench.sh.
#
#   SCALING_WORK="bindings sizes" SCALING_SECONDS=1 SCALING_PASSES=2 scripts/bench-scaling.sh
#   BINDINGS, QUEUES, CONNECTIONS, SIZES and BACKLOGS in the environment are the points, as in BACKLOGS="0 1000 10000000".
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -euo pipefail
  cd "$(dirname "$0")/.."
  . scripts/bench-lib.sh
fi

readonly ALL_SCALING_WORK="bindings queues connections sizes backlogs"
readonly SCALING_WORK=${SCALING_WORK:-$ALL_SCALING_WORK}
# Each point is measured for so long and so often; the pass with the lowest cost counts, for what disturbs only adds.
readonly SCALING_SECONDS=${SCALING_SECONDS:-1.5} SCALING_PASSES=${SCALING_PASSES:-2}
# The time that the rounds of a comparison leave for all points.
readonly SCALING_SECONDS_MAX=${SCALING_SECONDS_MAX:-330}

# The points of a kind of work.
points() {
  case $1 in
    bindings)    echo "${BINDINGS:-1 10 100 1000 10000 100000}" ;;
    queues)      echo "${QUEUES:-1 10 100 1000 10000}" ;;
    connections) echo "${CONNECTIONS:-1 10 100 1000 5000}" ;;
    sizes)       echo "${SIZES:-16 256 4096 65536 1048576 16777216}" ;;
    backlogs)    echo "${BACKLOGS:-0 1000 10000 100000 1000000 10000000}" ;;
    *)           die "there is no $1 to scale; there are: $ALL_SCALING_WORK" ;;
  esac
}

# The series of a kind of work.
series() { case $1 in bindings) echo topic direct ;; *) echo "$1" ;; esac; }

# The generator's options for one point. Routing keys take turns so that no cache of routes holds them all, as far as there are
# so many bindings.
scaling_options() {
  local work=$1 one=$2 n=$3
  case $work in
    bindings)
      local keys=5000
      if [ "$one" = direct ] && [ "$n" -lt "$keys" ]; then keys=$n; fi
      local needed=$keys
      if [ "$one" = topic ]; then needed=1; fi
      echo throughput --size 16 --exchange "$one" --routing-keys "$keys" --extra-bindings $((n - needed)) ;;
    queues)      echo throughput --size 16 --queues "$n" ;;
    connections) echo throughput --size 16 --publishers "$n" --rate 10000 ;;
    sizes)       echo throughput --size "$n" ;;
    backlogs)    echo throughput --size 16 --backlog "$n" ;;
  esac
}

measure_point() {
  local pass=$1 work=$2 one=$3 n=$4 report
  # shellcheck disable=SC2046 # options are words
  if ! report=$(timeout "$(remaining)" "$LEVERET" perf $(scaling_options "$work" "$one" "$n") --quiet --warm-up 0.3 --duration "$SCALING_SECONDS" \
    --uri "$URI" --broker-pid "$BROKER_PID" --json); then
    say "$one $n: failed"
    return 0
  fi
  jq -c --arg work "$work" --arg series "$one" --argjson n "$n" '{scaling: $work, series: $series, n: $n, report: .}' <<<"$report" >>"$RESULTS"
  say "pass $pass, $one, $n: $(jq -r '"\(.broker.cpu_us_per_message) us, \(.received_per_second)/s"' <<<"$report")"
}

# Every kind of work meets a broker of its own: what one leaves in memory must not count for the next.
measure_scaling() {
  local pass work one n
  for ((pass = 1; pass <= SCALING_PASSES; pass++)); do
    for work in $SCALING_WORK; do
      start_broker leveret 0
      for one in $(series "$work"); do
        for n in $(points "$work"); do
          if [ "$SECONDS" -ge "$TIME_LIMIT_SECONDS" ]; then
            say "the time is over before $one $n of pass $pass"
            stop_broker
            return
          fi
          measure_point "$pass" "$work" "$one" "$n"
        done
      done
      stop_broker
    done
  done
}

# Writes the section of the report, and its plots.
write_scaling() {
  local work
  mkdir -p "$PLOTS"
  for work in $SCALING_WORK; do
    jq -s --arg work "$work" -L scripts 'include "bench-scaling"; plot($work) // empty' "$RESULTS" >"$WORK/$work.json"
    [ -s "$WORK/$work.json" ] || continue
    jq -r -f scripts/bench-plot.jq "$WORK/$work.json" >"$PLOTS/$work.svg"
  done
  jq -rs --arg plots "$PLOTS" --arg date "$(date -u +%F)" --arg leveret "$(leveret_version)" --arg machine "${MACHINE:-$(machine)}" \
    --arg commands "$(scaling_commands)" -L scripts 'include "bench-scaling"; section($plots; $date; $leveret; $machine; $commands)' "$RESULTS" >"$WORK/scaling.md"
}

scaling_commands() {
  local work one n
  for work in $SCALING_WORK; do
    for one in $(series "$work"); do
      n=$(points "$work")
      n=${n##* }
      echo "leveret perf $(scaling_options "$work" "$one" "$n") --warm-up 0.3 --duration $SCALING_SECONDS  # $one, $n"
    done
  done
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  make_work_folder
  install_packages jq
  prepare_leveret
  [ -n "${RESULTS_FROM:-}" ] || measure_scaling
  write_scaling
  write_report
fi
