# How figures are written in BENCHMARKS.md.

def median: map(select(. != null)) | sort | if length == 0 then null elif length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;

def fixed($digits): if . == null then "–" else
  pow(10; $digits) as $scale | (. * $scale | round) as $all | ($all / $scale | floor | tostring) as $whole
  | if $digits == 0 then $whole else "\($whole).\(($all % $scale | tostring) | ("0" * ($digits - length)) // "")\($all % $scale)" end end;

# Three significant digits.
def figure: if . == null then "–" elif . >= 100 then fixed(0) elif . >= 10 then fixed(1) else fixed(2) end;
def rate: if . == null then "–" elif . >= 1000000 then "\(. / 1000000 | figure) M/s" elif . >= 1000 then "\(. / 1000 | figure) k/s" else "\(figure)/s" end;
def times($other): if . == null or $other == null or $other == 0 then null else . / $other end;
def ratio: if . == null then "–" else "\(figure) x" end;
def part: if . == null or . == 0 then "–" elif . < 1 then "1/\(1 / . | figure)" else ratio end;
def micros: if . == null then "–" else "\(figure) us" end;
def millis: if . == null then "–" elif . < 1000 then "\(. / 1000 | fixed(3)) ms" else "\(. / 1000 | figure) ms" end;
def kib: if . == null then "–" else "\(. / 1024 | figure) KiB" end;
def mib: if . == null then "–" else "\(. / 1048576 | figure) MiB" end;
def seconds: if . == null then "–" elif . < 1 then "\(fixed(3)) s" else "\(figure) s" end;

# 10000 is 10 k.
def short: if . >= 1000000 then "\(. / 1000000 | floor) M" elif . >= 1000 then "\(. / 1000 | floor) k" else tostring end;
def octets: if . >= 1048576 then "\(. / 1048576 | floor) MiB" elif . >= 1024 then "\(. / 1024 | floor) KiB" else "\(.) B" end;
