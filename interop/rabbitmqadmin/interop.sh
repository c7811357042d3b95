#!/usr/bin/env bash
# rabbitmqadmin, as RabbitMQ's package installs it, against the broker of MANAGEMENT_URL.
set -euo pipefail

address=${MANAGEMENT_URL#http://}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

admin() { python3 "$(command -v rabbitmqadmin)" --host "${address%:*}" --port "${address##*:}" --format tsv "$@"; }

# expect TEXT COMMAND...: the command succeeds and prints the text.
expect() {
    local text=$1 printed
    shift
    printed=$(admin "$@")
    if [[ $printed != *"$text"* ]]; then
        echo "rabbitmqadmin $*: '$text' is not in: $printed" >&2
        exit 1
    fi
}

expect "vhost declared" declare vhost name=admin
expect "user declared" declare user name=admin password=p tags=monitoring
expect "permission declared" declare permission vhost=admin user=admin configure='.*' write='.*' read='.*'
expect "queue declared" -V admin declare queue name=orders durable=true arguments='{"x-max-length":10}'
expect "queue declared" -V admin declare queue name=jobs queue_type=quorum
expect "exchange declared" -V admin declare exchange name=shop type=topic
expect "binding declared" -V admin declare binding source=shop destination=orders routing_key='order.#'
expect "Message published" -V admin publish exchange=shop routing_key=order.1 payload=hello
expect "NOT routed" -V admin publish exchange=shop routing_key=other payload=hello
expect $'orders\t1' -V admin list queues name messages
expect "order.#" -V admin list bindings routing_key
expect "hello" -V admin get queue=orders
expect "hello" -V admin get queue=orders ackmode=ack_requeue_false
expect "queue purged" -V admin purge queue name=orders
expect "rabbitmq_version" show overview
expect "mem_used" list nodes name mem_used
expect "admin" list users
expect "admin" list permissions
expect "Exported" export "$work/definitions.json"
expect "binding deleted" -V admin delete binding source=shop destination_type=queue destination=orders properties_key='order.%23'
expect "exchange deleted" -V admin delete exchange name=shop
expect "queue deleted" -V admin delete queue name=orders
expect "Uploaded" import "$work/definitions.json"
expect "order.#" -V admin list bindings routing_key
expect "user deleted" delete user name=admin
expect "vhost deleted" delete vhost name=admin
for listed in connections channels consumers exchanges vhosts; do
    admin list "$listed" >/dev/null
done
if admin close connection name=nothing >/dev/null 2>&1; then
    echo "a connection that is not there was closed" >&2
    exit 1
fi
echo "ok rabbitmqadmin $(admin --version | head -n 1)"
