# The section "Scaling" of BENCHMARKS.md, and what its plots show, from the lines of scripts/bench-scaling.sh.
include "bench-format";

# What grows, and how its points are called. `least` is where growth is measured from.
def works: {
  bindings: {title: "Bindings", x: "bindings of one exchange", least: 1,
    text: "16 octets through one exchange; the routing keys of 5,000 messages in a row differ, so that no cache of routes holds them (direct: as far as there are so many bindings)."},
  queues: {title: "Queues", x: "queues that messages take in turn", least: 1,
    text: "16 octets, one publisher and one consumer of all queues. What one read brings falls into ever smaller batches per queue; from about 600 queues on it is one message each."},
  connections: {title: "Connections", x: "connections that publish", least: 1,
    text: "16 octets, 10,000 messages a second of all publishers together, one consumer."},
  sizes: {title: "Message size", x: "octets of the body", least: 65536,
    text: "One publisher and one consumer. A body must be copied, so the growth is that of the cost per octet, from 64 KiB on."},
  backlogs: {title: "Backlog", x: "messages that wait before", least: 0,
    text: "16 octets into and out of a queue that already holds so many."}
};

def called($work): if $work == "sizes" then octets else short end;

# Broker CPU per message, us: half of it for those that were published only or consumed only, as when a backlog shrinks.
def cost: if .published + .received > 0 then .broker.cpu_seconds * 2e6 / (.published + .received) else 0 end;

# Per series its points in order; of the passes of a point the one with the lowest cost.
def points($work): map(select(.scaling == $work)) | group_by(.series)
  | map({name: .[0].series, points: (group_by(.n) | map({n: .[0].n} + (map(.report) | min_by(cost)
    | {cost: cost, published: .published_per_second, received: .received_per_second, generator: .own_cpu_us_per_message, memory: .broker.peak_memory_bytes})))}
    | .points |= map(select(.cost > 0)))
  | map(select(.points | length > 0));

# Cost at the last point to that at the first, beside the logarithm: 1 for the first point and 1 more for each doubling.
def growth($work): (works[$work].least) as $least
  | .points | map(select(.n >= $least)) | if length < 2 then null else
    (if $work == "sizes" then map(.cost /= .n) else . end)
    | {factor: (.[-1].cost / .[0].cost), limit: (1 + (([.[-1].n, 1] | max) / ([.[0].n, 1] | max) | log2))} end;

def plot($work): points($work) as $series | if $series | length == 0 then null else
  { title: works[$work].title, x: works[$work].x,
    ticks: ([$series[].points[].n] | unique | map([., called($work)])),
    panels: [
      {y: "broker CPU per message, us", series: ($series | map({name, points: (.points | map([.n, .cost]))}))},
      (if $work == "sizes" then
        {y: "bodies in and out, MB/s", series: ($series | [
          {name: "in", points: (.[0].points | map([.n, .n * .published / 1e6]))}, {name: "out", points: (.[0].points | map([.n, .n * .received / 1e6]))}])}
      else {y: "messages received per second", series: ($series | map({name, points: (.points | map([.n, .received]))}))} end)
    ]} end;

def table($work): points($work)[] | .name as $name |
  "| \({sizes: "size", backlogs: "backlog"}[$work] // $name) | broker CPU per message | \(if $work == "sizes" then "per KiB | in | out" else "received" end) | generator CPU | peak memory |",
  "|---|---|\(if $work == "sizes" then "---|---|" else "" end)---|---|---|",
  (.points[] | "| \(.n | called($work)) | \(.cost | micros) | \(if $work == "sizes" then "\(.cost * 1024 / .n | micros) | \(.n * .published / 1e6 | figure) MB/s | \(.n * .received / 1e6 | figure) MB/s" else (.received | rate) end) | \(.generator | micros) | \(.memory | mib) |"),
  "";

def section($plots; $date; $leveret; $machine; $commands):
  . as $all | (works | keys_unsorted | map(select(. as $work | $all | points($work) | length > 0))) as $measured
  | ([$measured[] as $work | $all | points($work)[] | {work: $work, name: .name} + (growth($work) // {})] | map(select(.factor))) as $growths
  | ($all | [points("sizes")[].points[] | select(.n == 1048576)] | first) as $mebibyte
  | [
  "## Scaling",
  "",
  "Leveret alone, by `make bench-scaling` (also part of `make bench`) on \($date): \($leveret), release build; \($machine). How the cost of a message grows with the work around it. Of all passes the one with the lowest cost counts. Growth is the cost at the largest point to that at the smallest; a logarithm that grows by 1 with each doubling would reach the last column.",
  "",
  "| what grows | from | to | cost grows | logarithm | |",
  "|---|---|---|---|---|---|",
  ($growths[] | . as $g | ($all | points($g.work)[] | select(.name == $g.name) | .points | map(select(.n >= works[$g.work].least)) | map(.n)) as $n
    | "| \(works[.work].title | ascii_downcase)\(if .name == .work then "" else ", \(.name)" end)\(if .work == "sizes" then ", per octet" else "" end) | \($n[0] | called($g.work)) | \($n[-1] | called($g.work)) | \(.factor | ratio) | \(.limit | ratio) | \(if .factor <= .limit then "met" else "**faster**" end) |"),
  "",
  (if $mebibyte then ($mebibyte | [.published, .received] | map(. * 1048576 / 1e9)) as [$in, $out]
    | "Bodies of 1 MiB: \($in | figure) GB/s in and \($out | figure) GB/s out at once, \($mebibyte.cost | micros) of the broker's CPU each; the target is 1 GB/s each way: \(if $in >= 1 and $out >= 1 then "met" else "**missed**" end).", ""
  else empty end),
  ($measured[] as $work |
    "### \(works[$work].title)", "", works[$work].text, "",
    "![\(works[$work].title): broker CPU per message and rate](\($plots)/\($work).svg)", "",
    ($all | table($work))),
  "```sh",
  ($commands | rtrimstr("\n")),
  "```"
  ] | join("\n");
