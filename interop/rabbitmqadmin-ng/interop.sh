#!/usr/bin/env bash
# rabbitmqadmin, the newer one in Rust, against the broker of MANAGEMENT_URL.  usage: interop.sh RABBITMQADMIN
set -euo pipefail

program=$1
address=${MANAGEMENT_URL#http://}
readonly deadline_seconds=30
work=$(mktemp -d)
load=
# Ends the load this script has started, by process id.
clean_up() {
    [ -z "$load" ] || { kill "$load" 2>/dev/null || true; wait "$load" || true; }
    rm -rf "$work"
}
trap clean_up EXIT

admin() { "$program" --non-interactive --host "${address%:*}" --port "${address##*:}" --username guest --password guest "$@"; }

# expect TEXT COMMAND...: the command succeeds and prints the text.
expect() {
    local text=$1 printed
    shift
    if ! printed=$(admin "$@" 2>&1) || [[ $printed != *"$text"* ]]; then
        echo "rabbitmqadmin $*: '$text' is not in: $printed" >&2
        exit 1
    fi
}

# expect_soon TEXT COMMAND...: the same, after a while.
expect_soon() {
    local text=$1 give_up=$((SECONDS + deadline_seconds))
    shift
    until [[ $(admin "$@" 2>&1) == *"$text"* ]] || [ "$SECONDS" -ge "$give_up" ]; do sleep 0.1; done
    expect "$text" "$@"
}

# refused COMMAND...: the command fails.
refused() {
    if admin "$@" >/dev/null 2>&1; then
        echo "rabbitmqadmin $*: it was not refused" >&2
        exit 1
    fi
}

expect "" vhosts declare --name ng
expect "" users declare --name app --password "p-of-app" --tags monitoring
expect "monitoring" users list
refused permissions delete --username app --vhost ng
expect "" permissions declare --username app --vhost ng --configure '^own' --read '.*' --write '.*'
expect "^own" permissions list
expect "^own" users permissions
expect "" declare user_limit --user app --name max-connections --value 5
expect "max-connections" users limits
expect "" declare vhost_limit --vhost ng --name max-queues --value 50
expect "max-queues" vhost_limits list --vhost ng

expect "" declare queue --vhost ng --name orders --type classic --durable true --arguments '{"x-max-length": 10}'
expect "" declare exchange --vhost ng --name shop --type topic --durable true
expect "" declare binding --vhost ng --source shop --destination-type queue --destination orders --routing-key 'order.#'
expect "order.#" bindings list --vhost ng
expect "" declare policy --vhost ng --name short --pattern '^orders$' --apply-to queues --priority 1 --definition '{"message-ttl": 600000}'
expect "short" policies list

expect "published and routed" publish message --vhost ng --exchange shop --routing-key order.1 --payload hello
expect "NOT routed" publish message --vhost ng --exchange shop --routing-key other --payload nobody
expect "published and routed" publish message --vhost ng --routing-key orders --payload again --properties '{"delivery_mode": 2, "message_id": "m1"}'
expect "hello" get messages --vhost ng --queue orders --count 5 --ack-mode ack_requeue_true
expect "again" get messages --vhost ng --queue orders --count 5 --ack-mode ack_requeue_false
refused get messages --vhost ng --queue none
expect "published and routed" publish message --vhost ng --routing-key orders --payload purged
expect "" purge queue --vhost ng --name orders

# What a client of AMQP looks like from here.
if [ -n "${AMQP_URL:-}" ] && [ -n "${LEVERET_BIN:-}" ]; then
    "$LEVERET_BIN" perf throughput --uri "$AMQP_URL" --publishers 1 --consumers 1 --rate 10 --duration 120 >"$work/load" 2>&1 &
    load=$!
    expect_soon "perf" list consumers
    expect "guest" connections list
    expect "guest" connections list_of_user --username guest
    expect "guest" users connections --username guest
    expect "127.0.0.1" list channels
    expect "" connections close_of_user --username guest
fi
refused close connection --name nothing

for check in local_alarms cluster_wide_alarms node_is_quorum_critical "port_listener --port ${address##*:}" "protocol_listener --protocol amqp"; do
    # shellcheck disable=SC2086 # a check and its option
    expect "passed" health_check $check
done
for shown in "show overview" "show churn" "nodes list" "exchanges list" "queues list" "feature_flags list" "deprecated_features list" \
    "plugins list_all" "global_parameters list" "parameters list_all" "operator_policies list" "shovels list_all" "streams list"; do
    # shellcheck disable=SC2086
    expect "" $shown
done
expect "Leveret" show overview

admin definitions export --file "$work/definitions.json"
expect "" delete binding --vhost ng --source shop --destination-type queue --destination orders --routing-key 'order.#'
expect "" delete exchange --vhost ng --name shop
expect "" delete queue --vhost ng --name orders
expect "" definitions import --file "$work/definitions.json"
expect "order.#" bindings list --vhost ng
expect "" users delete --name app
expect "" vhosts delete --name ng
echo "ok $(admin --version)"
