#!/usr/bin/env bash
# Makes broker/link/order.txt: the functions that a broker runs while it starts, serves a few thousand messages, persistent and
# transient, and stops. broker/build.rs has them put together in the program. To be run again when an idle broker has grown: names
# of Rust functions change with the compiler and the versions of crates, and those that no longer fit are passed over.
#
# Usage: scripts/link-order.sh LEVERET      a release build with its symbols. Needs valgrind.
set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")/.."
readonly PORT=25990
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

valgrind --quiet --tool=callgrind --demangle=no --callgrind-out-file="$folder/calls" "$program" serve --data-dir "$folder/data" \
  --amqp-listen "127.0.0.1:$PORT" --metrics-listen 127.0.0.1:0 --management-listen 127.0.0.1:0 >"$folder/log" 2>&1 &
broker=$!
load=("$program" perf throughput --uri "amqp://guest:guest@127.0.0.1:$PORT/%2f" --wait-for-broker 60 --quiet --count 3000 --size 100)
"${load[@]}" --persistent --confirm 100 --prefetch 200 --ack-every 10 >/dev/null
"${load[@]}" --exchange topic >/dev/null
kill "$broker"
wait "$broker" || { cat "$folder/log" >&2; exit 1; }

# Callgrind says each name once, with a number; a recursive call has a ' behind it. What is in other files (the C library, valgrind) goes.
grep -oE '^c?fn=\([0-9]+\) [^ ]+' "$folder/calls" | cut -d ' ' -f 2 | sed "s/'[0-9]*\$//" | LC_ALL=C sort -u >"$folder/run"
nm --defined-only "$program" | awk '$2 ~ /[tTwWi]/ { print $3 }' | LC_ALL=C sort -u >"$folder/defined"
LC_ALL=C comm -12 "$folder/run" "$folder/defined" >broker/link/order.txt
echo "$(wc -l <broker/link/order.txt) functions" >&2
