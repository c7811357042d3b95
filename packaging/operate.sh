#!/usr/bin/env bash
# What docs/operations.md tells an operator to do, on an installed package. Run by packaging/try.sh, as root, over a copy of the system
# with a network of its own, where nobody starts units: this starts the broker as the unit does.
set -euo pipefail

export LC_ALL=C.UTF-8
cd /root
fail() { echo "FAILED: $*" >&2; [ ! -e log ] || tail -n 5 log >&2; exit 1; }
refused() { if "$@" > /dev/null 2>&1; then fail "should be refused: $*"; fi; }
says() { local wanted=$1 said; shift; said=$("$@" 2>&1) || true; [[ $said == *"$wanted"* ]] || fail "$* says '$said', not '$wanted'"; }
as_leveret() { runuser -u leveret -- "$@"; }

# The folders that StateDirectory= and RuntimeDirectory= make.
install -d -o leveret -g leveret -m 750 /var/lib/leveret
install -d -o leveret -g leveret -m 755 /run/leveret
start() {
    (umask 027; LEVERET_DATA_DIR=/var/lib/leveret LEVERET_CTL_SOCKET=/run/leveret/ctl.sock exec setpriv --reuid leveret --regid leveret \
        --clear-groups --no-new-privs --bounding-set=-all leveret serve --config /etc/leveret/leveret.toml 2>> log) & broker=$!
    leveret ctl await_startup || fail "no start"
}
stop() { kill -TERM "$broker"; wait "$broker" || fail "no orderly stop"; }

# Install and configure.
start
says "listeners" leveret ctl status
as_leveret leveret config check /etc/leveret/leveret.toml > /dev/null
kill -HUP "$broker"

# Users.
leveret ctl add_vhost shop
echo hush > password.txt
leveret ctl add_user app < password.txt
leveret ctl set_permissions -p shop app '^app\.' '.*' '^app\.'
leveret ctl authenticate_user app hush > /dev/null
leveret ctl add_user admin s3cret
leveret ctl set_user_tags admin administrator
leveret ctl set_permissions admin '.*' '.*' '.*'
leveret ctl delete_user guest

# Watch.
for path in 15672/health/ready 15692/health/ready 15672/health/live 15692/health/live 15692/health 15692/metrics 15692/metrics/detailed; do
    curl -sf -o /dev/null "http://127.0.0.1:$path" || fail "$path"
done
for check in check_running check_alarms check_local_alarms check_virtual_hosts "check_port_listener 5672" "check_protocol_listener amqp" \
    ping check_port_connectivity "check_port_connectivity --address 127.0.0.1"; do
    # shellcheck disable=SC2086
    leveret ctl $check > /dev/null || fail "$check"
done
refused leveret ctl check_port_listener 1

for said in listeners alarms cluster_status environment; do leveret ctl "$said" > /dev/null && leveret ctl --formatter json "$said" > /dev/null || fail "$said"; done
leveret ctl set_vm_memory_high_watermark 0.4 > /dev/null
leveret ctl set_vm_memory_high_watermark absolute 2GiB > /dev/null
leveret ctl set_disk_free_limit mem_relative 0.001 > /dev/null
leveret ctl set_disk_free_limit 5MB > /dev/null
kill -HUP "$broker"

# The first minutes of a night.
leveret ctl status > /dev/null
leveret ctl list_queues name messages consumers message_bytes | sort -t "$(printf '\t')" -k 2 -n -r | head > /dev/null
leveret ctl list_connections user peer_host state | sort | uniq -c | sort -n -r | head > /dev/null
leveret ctl list_channels connection messages_unacknowledged | sort -t "$(printf '\t')" -k 2 -n -r | head > /dev/null
df -h /var/lib/leveret > /dev/null
journalctl -u leveret -p warning -n 50 --output=cat > /dev/null

# Drain.
leveret ctl close_all_connections --per-connection-delay 100 "a test" > /dev/null
leveret ctl drain
[ "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:15672/health/ready)" = 503 ] || fail "a drained broker is ready"
leveret ctl undrain

# Back up.
api() { curl -sf -u admin:s3cret -o /dev/null "$@"; }
api -X PUT http://127.0.0.1:15672/api/queues/%2F/orders -d '{"durable":true}'
for number in 1 2 3; do
    api -X POST http://127.0.0.1:15672/api/exchanges/%2F/amq.default/publish \
        -d '{"routing_key":"orders","payload":"'$number'","payload_encoding":"string","properties":{"delivery_mode":2}}'
done
copy=/var/backups/leveret/$(date +%F)
leveret backup "$copy" > /dev/null
says sound leveret check "$copy"
says "exists already" leveret backup "$copy"
says "writes the copy itself" leveret backup /root/copy
leveret ctl export_definitions all.json
curl -s -u admin:s3cret http://127.0.0.1:15672/api/health/checks/certificate-expiration/2/weeks | grep -q ok || fail "certificate-expiration"

# A damaged store.
damaged=/var/backups/leveret/damaged
cp -a "$copy" "$damaged"
rm "$damaged/db/CURRENT"
refused leveret check "$damaged"
says "mended" leveret check --repair "$damaged"
says sound leveret check "$damaged"
cp -a "$damaged" /root/damaged
says "may not look there" leveret check /root/damaged
rm -r "$damaged" /root/damaged

# Restore.
stop
mv /var/lib/leveret /var/lib/leveret.before
cp -a "$copy" /var/lib/leveret
start
says "orders	3" leveret ctl list_queues name messages
says "nothing differs" leveret ctl import_definitions all.json

# Upgrade.
says "in use" leveret check /var/lib/leveret
leveret ctl drain
stop
says sound leveret check /var/lib/leveret
says "it belongs to user" leveret serve --data-dir /var/lib/leveret
[ -z "$(find /var/lib/leveret -user root)" ] || fail "root left files behind"
start
leveret ctl await_startup && leveret ctl status > /dev/null
stop

# TLS.
(
    cd /etc/leveret
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.pem -days 30 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost 2> /dev/null
    cat >> leveret.toml <<'END'
tls_listen = ["0.0.0.0:5671"]
tls_certificate = "/etc/leveret/server.pem"
tls_key = "/etc/leveret/server.key"
management_tls_listen = ["0.0.0.0:15671"]
management_listen = []
amqp_listen = ["127.0.0.1:5672"]
END
)
says "cannot read /etc/leveret/server.key" as_leveret leveret config check /etc/leveret/leveret.toml
chgrp leveret /etc/leveret/server.key && chmod 640 /etc/leveret/server.key
as_leveret leveret config check /etc/leveret/leveret.toml > /dev/null
start
curl -sf --cacert /etc/leveret/server.pem -u admin:s3cret -o /dev/null https://localhost:15671/api/whoami || fail "management over TLS"
says "Verification: OK" openssl s_client -connect localhost:5671 -CAfile /etc/leveret/server.pem -brief -verify_return_error < /dev/null
refused curl -s http://127.0.0.1:15672/
stop
