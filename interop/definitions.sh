#!/usr/bin/env bash
# Definitions between a real RabbitMQ (Debian's) and Leveret: some thousand objects that RabbitMQ has exported are imported here in less than
# five seconds, exported equal, and RabbitMQ finds nothing changed in what it imports back. LEVERET_BIN names the broker.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/rabbitmq-node.sh
. scripts/rabbitmq-node.sh
readonly seconds_max=5 deadline_seconds=120
for tool in "$rabbitmq_server" jq curl python3; do
    command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed"; exit 0; }
done
leveret=${LEVERET_BIN:?name the broker}
work=$(mktemp -d)
rabbitmq_launcher='' leveret_pid=''

# Ends the brokers this script has started, by process id, and nothing else.
clean_up() {
    [ -z "$leveret_pid" ] || { kill "$leveret_pid" 2>/dev/null || true; wait "$leveret_pid" || true; }
    if [ -n "$rabbitmq_launcher" ]; then
        kill "$(cat "$work/pid" 2>/dev/null || echo "$rabbitmq_launcher")" 2>/dev/null || true
        wait "$rabbitmq_launcher" || true
    fi
    rm -rf "$work"
}
trap clean_up EXIT

fail() { echo "FAILED: $*" >&2; exit 1; }

free_ports() { python3 -c 'import socket; s=[socket.socket() for _ in range(3)]; [x.bind(("127.0.0.1",0)) for x in s]; print(*[x.getsockname()[1] for x in s])'; }

# api BASE PATH OPTIONS...: a request of guest to the management API, which must succeed.
api() {
    local url=$1/api/$2
    shift 2
    curl --silent --show-error --fail --user guest:guest --header 'content-type: application/json' "$@" "$url"
}

# wait_for BASE LOG: until the management API answers.
wait_for() {
    local give_up=$((SECONDS + deadline_seconds))
    until api "$1" overview >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$give_up" ] || fail "no answer from $1: $(tail -n 5 "$2")"
        sleep 0.2
    done
}

# A node of its own: other name, ports and folders than one that runs as a service.
start_rabbitmq() {
    local amqp management distribution
    read -r amqp management distribution < <(free_ports)
    echo '[rabbitmq_management].' >"$work/plugins"
    printf '%s\n' "listeners.tcp.1 = 127.0.0.1:$amqp" "management.tcp.ip = 127.0.0.1" "management.tcp.port = $management" >"$work/rabbitmq.conf"
    run_rabbitmq "$work" "leveret-definitions-$$" "$distribution" +sbwt none +sbwtdcpu none +sbwtdio none >"$work/rabbitmq.log" 2>&1 &
    rabbitmq_launcher=$!
    theirs=http://127.0.0.1:$management
    wait_for "$theirs" "$work/rabbitmq.log"
}

start_leveret() {
    local amqp management metrics
    read -r amqp management metrics < <(free_ports)
    env -i "$leveret" serve --data-dir "$work/data" --amqp-listen "127.0.0.1:$amqp" --management-listen "127.0.0.1:$management" \
        --metrics-listen "127.0.0.1:$metrics" >"$work/leveret.log" 2>&1 &
    leveret_pid=$!
    ours=http://127.0.0.1:$management
    wait_for "$ours" "$work/leveret.log"
}

# Of every kind that both know, with arguments and names that have to be quoted.
objects() {
    jq -n '
        [range(2)] | map("shop \(.)/ü") as $vhosts |
        def each(n): [$vhosts[] as $vhost | range(n) as $i | {vhost: $vhost, i: $i}];
        {
            vhosts: ($vhosts | map({name: .})),
            users: [range(50) | {name: "user \(.)", password: "p\(.)", tags: (["", "management", "administrator,monitoring"][. % 3])}],
            permissions: [$vhosts[] as $vhost | range(50) | {user: "user \(.)", $vhost, configure: "^q\(.)", write: ".*", read: ""}],
            topic_permissions: [$vhosts[] as $vhost | range(20) | {user: "user \(.)", $vhost, exchange: "amq.topic", write: "^{username}", read: ".*"}],
            policies: each(10) | map({vhost, name: "policy \(.i)", pattern: "^q\(.i)", "apply-to": "queues", priority: .i,
                definition: {"max-length": (.i + 1), "overflow": "reject-publish"}}),
            parameters: ($vhosts | map({component: "vhost-limits", vhost: ., name: "limits", value: {"max-queues": 5000}})),
            global_parameters: [{name: "of mine", value: {a: [1, "b", true]}}],
            exchanges: each(200) | map({vhost, name: "x\(.i)", type: (["direct", "fanout", "topic", "headers"][.i % 4]), durable: true,
                auto_delete: (.i % 7 == 0), internal: (.i % 11 == 0), arguments: (if .i % 5 == 0 then {"alternate-exchange": "amq.fanout"} else {} end)}),
            queues: each(1000) | map({vhost, name: "q\(.i) é/%", durable: true, auto_delete: false, arguments: ([
                {}, {"x-message-ttl": 60000}, {"x-max-length": 10, "x-overflow": "drop-head"}, {"x-dead-letter-exchange": "x1", "x-dead-letter-routing-key": "k"},
                {"x-max-priority": 5}, {"x-expires": 86400000}, {"x-single-active-consumer": true}, {"x-queue-mode": "lazy"}][.i % 8])}),
            bindings: ((each(1000) | map({vhost, source: "x\(.i % 200)", destination: "q\(.i) é/%", destination_type: "queue",
                routing_key: "key.\(.i).#", arguments: (if .i % 4 == 3 then {"x-match": "all", n: .i} else {} end)}))
                + (each(100) | map({vhost, source: "x\(.i)", destination: "x\(.i + 100)", destination_type: "exchange", routing_key: "", arguments: {}})))
        }'
}

# What both have to say of it, in an order that does not depend on who wrote it. RabbitMQ of Debian knows less of virtual hosts, and names
# itself and its cluster among the global parameters.
comparable() {
    jq --sort-keys '
        del(.rabbit_version, .rabbitmq_version, .product_name, .product_version, .rabbitmq_definition_format, .original_vhost_name,
            .original_cluster_name, .explanation, .metadata)
        | .vhosts |= map({name})
        | .global_parameters |= map(select(.name | IN("internal_cluster_id", "cluster_name", "cluster_tags") | not))
        | .users |= map(select(.name != "guest"))
        | map_values(sort_by(tojson))' "$1"
}

start_rabbitmq
start_leveret
objects >"$work/objects.json"
api "$theirs" definitions --request POST --data-binary "@$work/objects.json"
api "$theirs" definitions >"$work/theirs.json"
count=$(jq '[.[] | arrays | length] | add' "$work/theirs.json")

began=$EPOCHREALTIME
api "$ours" definitions --request POST --data-binary "@$work/theirs.json"
took=$(awk -v from="$began" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.2f", to - from }')
api "$ours" definitions >"$work/ours.json"
comparable "$work/theirs.json" >"$work/theirs.sorted"
comparable "$work/ours.json" >"$work/ours.sorted"
diff -u "$work/theirs.sorted" "$work/ours.sorted" | head -n 40 || true
cmp -s "$work/theirs.sorted" "$work/ours.sorted" || fail "what is exported is not what was imported"
awk -v took="$took" -v max="$seconds_max" 'BEGIN { exit !(took < max) }' || fail "$count objects took $took seconds"
differences=$(api "$ours" 'definitions?dry_run=true' --request POST --data-binary "@$work/theirs.json" | jq -c .differences)
[ "$differences" = '[]' ] || fail "a second import would change $differences"

# And back: RabbitMQ takes it, and is the same afterwards.
api "$theirs" definitions --request POST --data-binary "@$work/ours.json"
api "$theirs" definitions >"$work/back.json"
comparable "$work/back.json" >"$work/back.sorted"
diff -u "$work/theirs.sorted" "$work/back.sorted" | head -n 40 || true
cmp -s "$work/theirs.sorted" "$work/back.sorted" || fail "RabbitMQ is not the same after an import of what was exported here"
echo "ok: $count objects of RabbitMQ $(jq -r .rabbitmq_version "$work/theirs.json") imported in $took seconds, exported equal, and taken back unchanged"
