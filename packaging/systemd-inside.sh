#!/usr/bin/env bash
# What packaging/systemd.sh tries inside: run by the systemd of its own that it starts.
set -euo pipefail
export LC_ALL=C.UTF-8
ok() { echo "ok $*"; }
fail() { echo "FAILED: $*"; systemctl status --no-pager -n 20 leveret || true; exit 1; }
says() { local wanted=$1 said; shift; said=$("$@" 2>&1) || true; [[ $said == *"$wanted"* ]] || fail "$* says '${said:0:500}', not '$wanted'"; }
until_says() {
    local wanted=$1 said; shift
    for _ in $(seq 100); do said=$("$@" 2>&1) || true; [[ $said == *"$wanted"* ]] && return; sleep 0.1; done
    fail "$* says '${said:0:500}', not '$wanted'"
}
of() { systemctl show --property="$1" --value leveret; }
log() { journalctl --no-pager --output=cat --lines=200 -u leveret | tac; }
within() { [ "$SECONDS" -le "$1" ] || fail "$2 took $SECONDS seconds"; }
cd /root

dpkg -i leveret.deb > /dev/null 2>&1 || fail "the package is not installed"
says inactive systemctl is-active leveret
systemctl start leveret || fail "it does not start"
# When start returns, clients are served.
leveret ctl check_running > /dev/null || fail "start returned before the broker was ready"
says "active running" echo "$(of ActiveState) $(of SubState)"
says notify of Type
ok "start: ready by notify, '$(of StatusText)'"

broker=$(of MainPID)
has() { grep -q "$1" "/proc/$broker/status" || fail "not $1: $(cat "/proc/$broker/status")"; }
has "^NoNewPrivs:	1"
has "^Seccomp:	2"
has "^CapEff:	0000000000000000"
has "^CapBnd:	0000000000000000"
has "^Uid:	$(id -u leveret)"
inside() { nsenter --target "$broker" --mount -- "$@"; }
if inside touch /etc/leveret/x 2> /dev/null; then fail "/etc can be written"; fi
if inside touch /usr/x 2> /dev/null; then fail "/usr can be written"; fi
if inside ls /root/inside.sh 2> /dev/null; then fail "/root can be read"; fi
inside runuser -u leveret -- touch /var/lib/leveret/x || fail "the data directory cannot be written"
inside rm /var/lib/leveret/x
ok "what the unit shuts off is shut off"

# Under its system call filter all that a broker does is done.
leveret perf throughput --persistent --confirm 100 --count 20000 --quiet > perf 2>&1 || fail "perf: $(cat perf)"
api() { curl -sf -u guest:guest -o /dev/null "$@"; }
api -X PUT http://127.0.0.1:15672/api/queues/%2F/orders -d '{"durable":true}' || fail "no queue"
api -X POST http://127.0.0.1:15672/api/exchanges/%2F/amq.default/publish \
    -d '{"routing_key":"orders","payload":"1","payload_encoding":"string","properties":{"delivery_mode":2}}' || fail "no publish"
leveret ctl add_user somebody s3cret > /dev/null
leveret ctl authenticate_user somebody s3cret > /dev/null || fail "no password check"
leveret backup /var/backups/leveret/one > /dev/null || fail "no backup"
says sound leveret check /var/backups/leveret/one
[ "$(curl -s http://127.0.0.1:15692/metrics | grep -c '^rabbitmq_')" -gt 20 ] || fail "no metrics"
ok "messages, users, backup, metrics"

echo 'log_level = "debug"' >> /etc/leveret/leveret.toml
systemctl reload leveret || fail "no reload"
until_says "log_level" log
says "$broker" of MainPID
ok "reload"

kill -9 "$broker"
SECONDS=0
until_says "active" systemctl is-active leveret
until_says "orders	1" leveret ctl list_queues name messages
[ "$(of MainPID)" != "$broker" ] || fail "it is the same process"
within 8 "coming back after a kill"
ok "restart after kill -9, with its messages"

SECONDS=0
systemctl stop leveret
within 10 "stop"
says "success 0" echo "$(of Result) $(of ExecMainStatus)"
ok "stop"

systemctl start leveret
broker=$(of MainPID)
dpkg -i --force-confold leveret.deb > /dev/null 2>&1 || fail "the package is not installed again"
says active systemctl is-active leveret
leveret ctl check_running > /dev/null || fail "no broker after an upgrade"
if [ "$(of MainPID)" = "$broker" ]; then ok "upgrade: the old program runs until it is restarted"; else ok "upgrade: restarted"; fi
systemctl stop leveret

mkdir -p /etc/systemd/system/leveret.service.d
printf '[Service]\nWatchdogSec=2\n' > /etc/systemd/system/leveret.service.d/watchdog.conf
systemctl daemon-reload
systemctl start leveret
broker=$(of MainPID)
sleep 3
says "$broker" of MainPID
kill -STOP "$broker"
until_says 'Watchdog timeout' log
until_says active systemctl is-active leveret
until_says "orders	1" leveret ctl list_queues name messages
rm -r /etc/systemd/system/leveret.service.d
systemctl daemon-reload
systemctl restart leveret
ok "watchdog: a broker that hangs is started again"

systemctl stop leveret
systemctl start leveret.socket || fail "systemd does not listen"
says inactive systemctl is-active leveret
exec {client}<> /dev/tcp/127.0.0.1/5672
printf 'AMQP\0\0\11\1' >&"$client"
[ "$(timeout 20 head -c 1 <&"$client" | od -An -tu1 | tr -d ' ')" = 1 ] || fail "no answer through systemd's socket"
exec {client}>&-
until_says "running" of SubState
says "active" systemctl is-active leveret
(for _ in $(seq 10); do
    timeout 20 bash -c "exec 3<> /dev/tcp/127.0.0.1/5672; printf 'AMQP\0\0\11\1' >&3; head -c 1 <&3 > /dev/null" || exit 1
    sleep 0.1
done) & clients=$!
systemctl restart leveret
wait "$clients" || fail "a client was refused while the broker restarted"
systemctl stop leveret.socket leveret
ok "socket activation, and a restart that refuses nobody"

echo 'nonsense = 1' >> /etc/leveret/leveret.toml
if systemctl start leveret 2> /dev/null; then fail "a bad configuration is accepted"; fi
says "unknown key 'nonsense'" log
sleep 5
says "failed 0" echo "$(of ActiveState) $(of NRestarts)"
sed -i '/nonsense/d' /etc/leveret/leveret.toml
systemctl reset-failed leveret
systemctl start leveret
ok "a bad configuration is told once, not every two seconds"

says OK echo "$(systemd-analyze security --no-pager leveret | tail -n 1)"
echo "   $(systemd-analyze security --no-pager leveret | tail -n 1)"
dpkg --purge leveret > /dev/null 2>&1 || fail "the package is not removed"
until_says inactive systemctl is-active leveret
ok "removal stops it"
