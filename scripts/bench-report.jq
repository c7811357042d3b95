# The comparison in BENCHMARKS.md from the lines that scripts/bench.sh collects: medians over the rounds, Leveret's ratios to
# RabbitMQ, and the targets.
include "bench-format";
include "bench-targets";

# What a run is judged by: what was consumed, else what was confirmed, else what was published.
def main_rate: if .received > 0 then .received_per_second elif .confirmed > 0 then .confirmed_per_second else .published_per_second end;
# CPU per message consumed where the queue may grow: a message that only lies there is not work done.
def main_cpu($workload): if .broker == null then null elif $workload == "ack100" and .received > 0 then .broker.cpu_seconds * 1e6 / .received else .broker.cpu_us_per_message end;
def pair_ratio: .rabbitmq as $beside | .leveret | times($beside);

map(select(.scaling == null and .round > 0)) as $all
| def of($broker; $workload): $all | map(select(.broker == $broker and .workload == $workload) | .report);
  def pair($name; f): {rabbitmq: (of("rabbitmq"; $name) | map(f) | median), leveret: (of("leveret"; $name) | map(f) | median)};
  ($all | map(select(.workload != "start" and .workload != "sync") | .workload) | reduce .[] as $name ([]; if index($name) then . else . + [$name] end)) as $names
| ($names | map(select(. != "filldrain" and . != "idle"))) as $loads
| ($all | map(.round) | max // 0) as $rounds
| def starts(f): reduce ("rabbitmq", "leveret") as $broker ({}; .[$broker] = ($all | map(select(.workload == "start" and .broker == $broker) | f) | median));
  # Of each round: the median confirm of conf1 against the median fdatasync before and after it.
  def to_sync($broker): [range(1; $rounds + 1) as $round
    | ($all | map(select(.broker == $broker and .round == $round))) as $here
    | ($here | map(select(.workload == "conf1") | .report.confirm_latency.p50_us) | median)
      | times($here | map(select(.workload == "sync") | .report.sync_latency.p50_us) | median)] | median;
  def row($title; $done; $cpu; $own): "| \($title) | \($done.rabbitmq | rate) | \($done.leveret | rate) | **\($done | pair_ratio | ratio)** | \($cpu.rabbitmq | micros) | \($cpu.leveret | micros) | **\($cpu | pair_ratio | part)** | \($own.leveret | micros) |";
  def latency_row($title; $p50; $p99; $p999; $max): if ($p50.rabbitmq // $p50.leveret) == null then empty else
    "| \($title) | \($p50.rabbitmq | millis) | \($p50.leveret | millis) | **\($p50 | pair_ratio | ratio)** | \($p99.rabbitmq | millis) | \($p99.leveret | millis) | **\($p99 | pair_ratio | ratio)** | \($p999.rabbitmq | millis) | \($p999.leveret | millis) | \($max.rabbitmq | millis) | \($max.leveret | millis) |" end;
  def latencies($name; $title; f): latency_row($title; pair($name; f | .p50_us?); pair($name; f | .p99_us?); pair($name; f | .p99_9_us?); pair($name; f | .max_us?));
  def latency_head($what): "| \($what) | RabbitMQ p50 | Leveret p50 | ratio | RabbitMQ p99 | Leveret p99 | ratio | RabbitMQ p99.9 | Leveret p99.9 | RabbitMQ max | Leveret max |", "|---|---|---|---|---|---|---|---|---|---|---|";
  def memory($title; $pair; show): "| \($title) | \($pair.rabbitmq | show) | \($pair.leveret | show) | **\($pair | pair_ratio | part)** |";
  def peak: [.fill.broker.peak_memory_bytes, .drain.broker.peak_memory_bytes] | max;

{ loads: ($loads | map(. as $name | {key: $name, value: {
    rate_ratio: (pair($name; main_rate) | pair_ratio), cpu_ratio: (pair($name; main_cpu($name)) | pair_ratio),
    p50_ratio: (pair($name; .latency.p50_us?) | pair_ratio), p99_ratio: (pair($name; .latency.p99_us?) | pair_ratio),
    confirm_p99_ratio: (pair($name; .confirm_latency.p99_us?) | pair_ratio)}}) | from_entries),
  sync_ratio: to_sync("leveret"),
  fill_ratio: (pair("filldrain"; .fill.published_per_second) | pair_ratio),
  drain_ratio: (pair("filldrain"; .drain.received_per_second) | pair_ratio),
  peak_bytes: pair("filldrain"; peak).leveret,
  connection_bytes: pair("idle"; .memory.per_connection_bytes).leveret,
  start_seconds: starts(.start_seconds).leveret,
  idle_bytes: starts(.idle_bytes).leveret,
  generator_ratio: ($loads | map(. as $name | pair($name; .own_cpu_us_per_message).leveret | times(pair($name; .broker.cpu_us_per_message).leveret)) | max)
} as $summary
| ($summary | targets) as $targets
| [
"# Benchmarks",
"",
"Written by `make bench` on \($date): Leveret beside Debian's RabbitMQ on one machine over loopback, one load generator (`leveret perf`) for both, one broker running at a time. Medians of \($rounds) rounds of \($seconds) seconds; the brokers take turns. Broker and generator share the cores. docs/perf.md says what each figure means.",
"",
"- machine: \($machine)",
"- \($rabbitmq)",
"- \($leveret), release build",
"- equal durability: persistent messages in durable queues, each broker with its defaults, which sync to disk before a confirm",
(if $note == "" then empty else "- \($note)" end),
"",
"## Targets",
"",
"\($targets | map(select(verdict == "met")) | length) of \($targets | length) met. A rate is Leveret's to RabbitMQ's, and so is a part; from the medians below.",
"",
"| workload | figure | target | measured | |",
"|---|---|---|---|---|",
($targets[] | "| \(.name) | \(.figure) | \(.bound) | \(.text) | \(verdict) |"),
"",
"## Rates and cost",
"",
"The rate is that of messages consumed (conf1: confirmed). CPU is user and system time of the broker's whole process tree per message, the larger of published and consumed (ack100: consumed). The last column is the same of the load generator beside Leveret.",
"",
"| workload | RabbitMQ | Leveret | ratio | RabbitMQ CPU | Leveret CPU | ratio | generator CPU |",
"|---|---|---|---|---|---|---|---|",
($loads[] | . as $name | row($name; pair($name; main_rate); pair($name; main_cpu($name)); pair($name; .own_cpu_us_per_message))),
(if $names | index("filldrain") then
  row("fill"; pair("filldrain"; .fill.published_per_second); pair("filldrain"; .fill.broker.cpu_us_per_message); pair("filldrain"; .fill.own_cpu_us_per_message)),
  row("drain"; pair("filldrain"; .drain.received_per_second); pair("filldrain"; .drain.broker.cpu_us_per_message); pair("filldrain"; .drain.own_cpu_us_per_message))
else empty end),
"",
"## Latency",
"",
"Of deliveries: from writing to reading; in lat5k from the time a message was due. At full speed it says how much lies in sockets and queues.",
"",
latency_head("workload"),
($loads[] | . as $name | latencies($name; $name; .latency)),
"",
"Of confirms, from writing (at most so many messages unconfirmed as the workload says), and of one fdatasync of 512 octets on the same disk, measured before and after conf1 in each round:",
"",
latency_head("confirms"),
($loads[] | . as $name | latencies($name; $name; .confirm_latency)),
latencies("sync"; "one fdatasync"; .sync_latency),
"",
"One confirm at a time takes \(to_sync("rabbitmq") | ratio) one fdatasync with RabbitMQ and **\(to_sync("leveret") | ratio)** with Leveret, by the medians of each round.",
"",
"## Memory and start",
"",
"| | RabbitMQ | Leveret | ratio |",
"|---|---|---|---|",
memory("start on an empty folder until AMQP answers"; starts(.start_seconds); seconds),
memory("resident when idle"; starts(.idle_bytes); mib),
(if $names | index("idle") then memory("idle connection with channel, queue and consumer"; pair("idle"; .memory.per_connection_bytes); kib) else empty end),
(if $names | index("filldrain") then
  memory("peak while filling"; pair("filldrain"; .fill.broker.peak_memory_bytes); mib),
  memory("peak while draining"; pair("filldrain"; .drain.broker.peak_memory_bytes); mib) else empty end),
"",
"## All rounds",
"",
"Messages per second of each round, RabbitMQ's then Leveret's:",
"",
($loads[] | . as $name | "- \($name): \(of("rabbitmq"; $name) | map(main_rate | rate) | join(", ")); \(of("leveret"; $name) | map(main_rate | rate) | join(", "))"),
"",
"## Commands",
"",
"`make bench` runs everything. By hand, against any broker: `leveret perf ... --uri amqp://guest:guest@HOST:5672/%2f` with",
"",
"```sh",
($commands | rtrimstr("\n")),
"```"
] | join("\n")
