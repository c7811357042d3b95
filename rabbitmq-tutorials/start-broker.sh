# To be sourced. Gives scripts a broker of their own.

readonly deadline_seconds=30

# wait_for FILE TEXT COUNT: waits until TEXT stands in at least COUNT lines of FILE.
wait_for() {
    local give_up=$((SECONDS + deadline_seconds))
    until [ "$(grep -cF -- "$2" "$1")" -ge "$3" ]; do
        if [ "$SECONDS" -ge "$give_up" ]; then
            echo "'$2' did not appear $3 times in $1:" >&2
            cat "$1" >&2
            exit 1
        fi
        sleep 0.05
    done
}

# cargo's target folder, wherever it was put.
target_folder() {
    cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# start_broker FOLDER: starts leveret on free ports with its data and log in FOLDER, and sets AMQP_URL, MANAGEMENT_URL and broker_pid.
# The binary is the one named by LEVERET_BIN, else the one in cargo's target folder, which is built if it is not there.
start_broker() {
    local folder=$1 binary=${LEVERET_BIN:-} target address
    if [ -z "$binary" ]; then
        target=$(target_folder)
        for candidate in "$target/release/leveret" "$target/debug/leveret"; do
            [ -n "$binary" ] || [ ! -x "$candidate" ] || binary=$candidate
        done
        if [ -z "$binary" ]; then
            cargo build --quiet --package leveret
            binary=$target/debug/leveret
        fi
    fi
    : >"$folder/broker.log"
    "$binary" serve --data-dir "$folder/data" --amqp-listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 \
        --management-listen 127.0.0.1:0 --log-format json >"$folder/broker.log" 2>&1 &
    broker_pid=$!
    wait_for "$folder/broker.log" '"protocol":"amqp"' 1
    address=$(grep -F '"protocol":"amqp"' "$folder/broker.log" | sed -n 's/.*"address":"\([^"]*\)".*/\1/p' | head -n 1)
    wait_for "$folder/broker.log" '"protocol":"management"' 1
    MANAGEMENT_URL="http://$(grep -F '"protocol":"management"' "$folder/broker.log" | sed -n 's/.*"address":"\([^"]*\)".*/\1/p' | head -n 1)"
    export MANAGEMENT_URL
    export AMQP_URL="amqp://guest:guest@$address/%2f"
    echo "Started $binary on $address"
}
