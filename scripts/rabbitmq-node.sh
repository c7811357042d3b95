# shellcheck shell=bash
# For scripts that start a RabbitMQ (Debian's) of their own. To be sourced.

# The program of the package.
rabbitmq_server=/usr/lib/rabbitmq/bin/rabbitmq-server

# run_rabbitmq FOLDER NAME DISTRIBUTION_PORT ERLANG_ARGUMENTS...: becomes a node with another name, ports and folders than one that runs
# as a service. FOLDER has its rabbitmq.conf and its plugins; its data, its log and its pid get there, too.
run_rabbitmq() {
    local folder=$1 name=$2 port=$3
    shift 3
    exec env HOME="$folder" RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE="$folder/rabbitmq" RABBITMQ_NODENAME="$name@localhost" \
        RABBITMQ_DIST_PORT="$port" RABBITMQ_MNESIA_BASE="$folder" RABBITMQ_LOG_BASE="$folder" RABBITMQ_ENABLED_PLUGINS_FILE="$folder/plugins" \
        RABBITMQ_PID_FILE="$folder/pid" ERL_EPMD_ADDRESS=127.0.0.1 \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} $*" "$rabbitmq_server"
}
