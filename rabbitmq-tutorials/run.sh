#!/usr/bin/env bash
# Runs the six tutorial scenarios and shows what each program prints.
#
# Uses the broker named by AMQP_URL. Without it, starts a leveret of its own on a free port with a temporary data folder:
# the binary named by LEVERET_BIN, else the one in cargo's target folder, which is built if it is not there.
set -euo pipefail
cd "$(dirname "$0")/.."

. rabbitmq-tutorials/start-broker.sh

work=$(mktemp -d)
pids=()

# Ends everything this script has started, by process id, and nothing else.
clean_up() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap clean_up EXIT

scenario() { printf '\n== %s ==\n' "$1"; }

# receive NAME READY PROGRAM ARGUMENTS...: starts a program that runs until it is stopped; NAME is its file below $work.
receive() {
    local name=$1 ready=$2
    shift 2
    echo "\$ $* &"
    : >"$work/$name"
    "$programs/$1" "${@:2}" >"$work/$name" 2>&1 &
    pids+=($!)
    last_pid=$!
    wait_for "$work/$name" "$ready" 1
}

run() {
    echo "\$ $*"
    "$programs/$1" "${@:2}"
}

# show NAME TITLE TEXT COUNT: waits until the program has printed TEXT COUNT times, then shows all it has printed.
show() {
    wait_for "$work/$1" "$3" "$4"
    echo "-- $2 printed:"
    cat "$work/$1"
}

cargo build --quiet --package rabbitmq-tutorials --bins
programs=$(target_folder)/debug
if [ -z "${AMQP_URL:-}" ]; then
    start_broker "$work"
    pids+=("$broker_pid")
fi

readonly messages='[*] Waiting for messages.' logs='[*] Waiting for logs.'

scenario 'Hello World!'
receive hello "$messages" receive
run send
show hello receive '[x] Received' 1

scenario 'Work Queues: a slow worker is not given more than it can do'
receive slow "$messages" worker 60
slow_pid=$last_pid
run new_task A long task.
wait_for "$work/slow" 'Received' 1
receive fast "$messages" worker 0.01
for number in 1 2 3 4; do run new_task "Task $number."; done
show fast 'the fast worker' 'Done' 4
show slow 'the slow worker' 'Received' 1

echo '... and the task of a worker that is killed goes to another'
disown "$slow_pid"; kill -9 "$slow_pid"
show fast 'the fast worker' 'Done' 5

scenario 'Publish/Subscribe: every listener gets a copy'
receive logs1 "$logs" receive_logs
receive logs2 "$logs" receive_logs
run emit_log
run emit_log warning: disk nearly full
show logs1 'the first listener' 'Received' 2
show logs2 'the second listener' 'Received' 2

scenario 'Routing: by severity'
receive errors "$logs" receive_logs_direct error
receive all "$logs" receive_logs_direct info warning error
run emit_log_direct info All is well
run emit_log_direct warning Getting full
run emit_log_direct error Run. Run. Or it will explode.
show errors 'the listener for errors' 'Received' 1
show all 'the listener for all severities' 'Received' 3

scenario 'Topics: by pattern'
receive kern "$logs" receive_logs_topic 'kern.*'
receive critical "$logs" receive_logs_topic '*.critical'
receive everything "$logs" receive_logs_topic '#'
run emit_log_topic kern.info Booted
run emit_log_topic cron.critical A job has failed
run emit_log_topic kern.critical A critical kernel error
show kern 'the listener for kern.*' 'Received' 2
show critical 'the listener for *.critical' 'Received' 2
show everything 'the listener for #' 'Received' 3

scenario 'RPC: answers find the request they belong to'
receive server1 'Awaiting RPC requests' rpc_server
receive server2 'Awaiting RPC requests' rpc_server
run rpc_client
run rpc_client 25 3 20 7
show server1 'the first server' 'fib(' 1
show server2 'the second server' 'fib(' 1

printf '\nAll six scenarios ran.\n'
