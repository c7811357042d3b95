# What Leveret is to reach beside RabbitMQ on the same machine, and whether it does. `value` is a median or the ratio of two;
# `limit` is the least or, with `most`, the most that it may be.

include "bench-format";

# 11.0 x is 11 x.
def round_off: gsub("\\.0+(?= |$)"; "");
def target($name; $figure; $value; $limit; show): {name: $name, figure: $figure, value: $value, limit: $limit, most: false} | . + {text: ($value | show), bound: "at least \($limit | show | round_off)"};
def most($name; $figure; $value; $limit; show): target($name; $figure; $value; $limit; show) + {most: true, bound: "at most \($limit | show | round_off)"};
def verdict: if .value == null then "not measured" elif (if .most then .value <= .limit else .value >= .limit end) then "met" else "**missed**" end;

# The table, of a summary as scripts/bench-report.jq makes it.
def targets:
  . as $all
  | def of($name): $all.loads[$name] // {};
    def rate_and_cpu($name; $least_rate; $cpu_part):
      target($name; "rate"; of($name).rate_ratio; $least_rate; ratio),
      most($name; "CPU per message"; of($name).cpu_ratio; 1 / $cpu_part; part);
  [ rate_and_cpu("auto16"; 11; 30),
    rate_and_cpu("ack100"; 5; 20),
    rate_and_cpu("2q1k"; 6; 14),
    rate_and_cpu("fanout10"; 10; 25),
    rate_and_cpu("topic"; 12; 25),
    rate_and_cpu("conf1k"; 6; 14),
    most("conf1k"; "confirm p99"; of("conf1k").confirm_p99_ratio; 0.25; part),
    rate_and_cpu("conf1k8p"; 5; 14),
    most("conf1k8p"; "confirm p99"; of("conf1k8p").confirm_p99_ratio; 0.25; part),
    most("conf1"; "confirm p50 to one fdatasync"; $all.sync_ratio; 1.3; ratio),
    most("lat5k"; "p50"; of("lat5k").p50_ratio; 0.8; ratio),
    most("lat5k"; "p99"; of("lat5k").p99_ratio; 0.8; ratio),
    most("lat5k"; "CPU per message"; of("lat5k").cpu_ratio; 1 / 3; part),
    target("fill"; "rate"; $all.fill_ratio; 20; ratio),
    target("drain"; "rate"; $all.drain_ratio; 20; ratio),
    most("fill and drain"; "peak memory"; $all.peak_bytes; 150 * 1048576; mib),
    most("idle"; "memory per connection"; $all.connection_bytes; 20 * 1024; kib),
    most("start"; "until AMQP answers"; $all.start_seconds; 0.15; seconds),
    most("start"; "resident when idle"; $all.idle_bytes; 20 * 1048576; mib),
    most("load generator"; "its CPU, to Leveret's, where that is worst"; $all.generator_ratio; 1; ratio)
  ];
