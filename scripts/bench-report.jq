# BENCHMARKS.md from the lines that scripts/bench.sh collects: medians over the rounds, and Leveret's ratio to RabbitMQ.

def median: map(select(. != null)) | sort | if length == 0 then null elif length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;

def fixed($digits): if . == null then "–" else
  pow(10; $digits) as $scale | (. * $scale | round) as $all | ($all / $scale | floor | tostring) as $whole
  | if $digits == 0 then $whole else "\($whole).\(($all % $scale | tostring) | ("0" * ($digits - length)) // "")\($all % $scale)" end end;

# Three significant digits.
def figure: if . == null then "–" elif . >= 100 then fixed(0) elif . >= 10 then fixed(1) else fixed(2) end;
def rate: if . == null then "–" elif . >= 1000 then "\(. / 1000 | figure) k/s" else "\(figure)/s" end;
def times($other): if . == null or $other == null or $other == 0 then null else . / $other end;
def ratio: if . == null then "–" else "\(figure) x" end;
def part: if . == null or . == 0 then "–" elif . < 1 then "1/\(1 / . | figure)" else ratio end;
def micros: if . == null then "–" else "\(figure) us" end;
def millis: if . == null then "–" else "\(. / 1000 | figure) ms" end;
def kib: if . == null then "–" else "\(. / 1024 | figure) KiB" end;
def mib: if . == null then "–" else "\(. / 1048576 | figure) MiB" end;

# What a run is judged by: what was consumed, else what was confirmed, else what was published.
def main_rate: if .received > 0 then .received_per_second elif .confirmed > 0 then .confirmed_per_second else .published_per_second end;
# CPU per message consumed where the queue may grow: a message that only lies there is not work done.
def main_cpu($workload): if .broker == null then null elif $workload == "ack100" and .received > 0 then .broker.cpu_seconds * 1e6 / .received else .broker.cpu_us_per_message end;

def of($all; $broker; $workload): $all | map(select(.broker == $broker and .workload == $workload) | .report);
def rows($all; $names; f): $names | map(. as $name | {name: $name, rabbitmq: (of($all; "rabbitmq"; $name) | map(f) | median), leveret: (of($all; "leveret"; $name) | map(f) | median)});

. as $all
| (map(select(.workload != "start") | .workload) | reduce .[] as $name ([]; if index($name) then . else . + [$name] end)) as $names
| ($names | map(select(. != "filldrain" and . != "idle"))) as $loads
| (map(.round) | max) as $rounds
| def pair($name; f): {rabbitmq: (of($all; "rabbitmq"; $name) | map(f) | median), leveret: (of($all; "leveret"; $name) | map(f) | median)};
def row($title; $done; $cpu): "| \($title) | \($done.rabbitmq | rate) | \($done.leveret | rate) | **\($done.leveret | times($done.rabbitmq) | ratio)** | \($cpu.rabbitmq | micros) | \($cpu.leveret | micros) | **\($cpu.leveret | times($cpu.rabbitmq) | part)** |";
def latencies($name; $title; f): pair($name; f | .p50_us?) as $p50 | pair($name; f | .p99_us?) as $p99 | pair($name; f | .p99_9_us?) as $p999
  | if $p50.rabbitmq == null and $p50.leveret == null then empty else
  "| \($title) | \($p50.rabbitmq | millis) | \($p50.leveret | millis) | **\($p50.leveret | times($p50.rabbitmq) | ratio)** | \($p99.rabbitmq | millis) | \($p99.leveret | millis) | **\($p99.leveret | times($p99.rabbitmq) | ratio)** | \($p999.rabbitmq | millis) | \($p999.leveret | millis) |" end;
def starts($broker; f): $all | map(select(.workload == "start" and .broker == $broker) | f) | median;
def memory($title; $pair; show): "| \($title) | \($pair.rabbitmq | show) | \($pair.leveret | show) | **\($pair.leveret | times($pair.rabbitmq) | part)** |";
[
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
"## Rates and cost",
"",
"The rate is that of messages consumed (conf1: confirmed). CPU is user and system time of the broker's whole process tree per message, the larger of published and consumed (ack100: consumed).",
"",
"| workload | RabbitMQ | Leveret | ratio | RabbitMQ CPU | Leveret CPU | ratio |",
"|---|---|---|---|---|---|---|",
($loads[] | . as $name | row($name; pair($name; main_rate); pair($name; main_cpu($name)))),
(if $names | index("filldrain") then
  row("fill"; pair("filldrain"; .fill.published_per_second); pair("filldrain"; .fill.broker.cpu_us_per_message)),
  row("drain"; pair("filldrain"; .drain.received_per_second); pair("filldrain"; .drain.broker.cpu_us_per_message))
else empty end),
"",
"## Latency",
"",
"Of deliveries (from writing to reading; in lat5k from the time a message was due), and of confirms.",
"",
"| workload | RabbitMQ p50 | Leveret p50 | ratio | RabbitMQ p99 | Leveret p99 | ratio | RabbitMQ p99.9 | Leveret p99.9 |",
"|---|---|---|---|---|---|---|---|---|",
($loads[] | . as $name | latencies($name; $name; .latency)),
($loads[] | . as $name | latencies($name; "\($name), confirms"; .confirm_latency)),
"",
"## Memory and start",
"",
"| | RabbitMQ | Leveret | ratio |",
"|---|---|---|---|",
"| start on an empty folder until AMQP answers | \(starts("rabbitmq"; .start_seconds) | figure) s | \(starts("leveret"; .start_seconds) | figure) s | **\(starts("leveret"; .start_seconds) | times(starts("rabbitmq"; .start_seconds)) | part)** |",
memory("resident when idle"; {rabbitmq: starts("rabbitmq"; .idle_bytes), leveret: starts("leveret"; .idle_bytes)}; mib),
(if $names | index("idle") then memory("idle connection with channel, queue and consumer"; pair("idle"; .memory.per_connection_bytes); kib) else empty end),
(if $names | index("filldrain") then memory("peak while filling"; pair("filldrain"; .fill.broker.peak_memory_bytes); mib) else empty end),
"",
"## All rounds",
"",
"Messages per second of each round, RabbitMQ's then Leveret's:",
"",
($loads[] | . as $name | "- \($name): \(of($all; "rabbitmq"; $name) | map(main_rate | rate) | join(", ")); \(of($all; "leveret"; $name) | map(main_rate | rate) | join(", "))"),
"",
"## Commands",
"",
"`make bench` runs everything. By hand, against any broker: `leveret perf ... --uri amqp://guest:guest@HOST:5672/%2f` with",
"",
"```sh",
($commands | rtrimstr("\n")),
"```"
] | join("\n")
