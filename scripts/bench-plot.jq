# An SVG of two panels side by side, both axes logarithmic, from {title, x, ticks: [[x, name]], panels: [{y, series: [{name, points: [[x, y]]}]}]}.
# Without a background, in colours that stand out from white and from black; the texts follow the reader's colour scheme.

def colours: ["#2f81f7", "#d9822b", "#3a9d4a", "#a371f7"];
def width: 420;
def height: 210;
def left: 62;
def top: 52;

def log: if . < 1 then 1 else . end | log10;
def coordinate: . * 10 | round / 10;
def escaped: gsub("&"; "&amp;") | gsub("<"; "&lt;");
def text($x; $y; $class; $anchor): "<text x=\"\($x | coordinate)\" y=\"\($y | coordinate)\" class=\"\($class)\" text-anchor=\"\($anchor)\">\(escaped)</text>";
def line($x1; $y1; $x2; $y2): "<line x1=\"\($x1 | coordinate)\" y1=\"\($y1 | coordinate)\" x2=\"\($x2 | coordinate)\" y2=\"\($y2 | coordinate)\" class=\"grid\"/>";

# 0.1, 1, 10, 1 k: a power of ten.
def decade: if . < 0 then "0." + ("0" * (-. - 1) // "") + "1" else [pow(10; . % 3), ["", " k", " M", " G"][. / 3 | floor]] | "\(.[0] | round)\(.[1])" end;

# Whole decades around the values, two at least.
def decades: [([.[] | log10 | floor] | min), ([.[] | log10 | ceil] | max)] | if .[1] - .[0] < 2 then [.[0], .[0] + 2] else . end;

def panel($index; $x; $ticks):
  ($index * (width + left + 28) + left) as $left
  | ([.series[].points[][1]] | decades) as [$low, $high]
  | ([$ticks[][0] | log] | [min, max] | if .[0] == .[1] then [.[0], .[0] + 1] else . end) as [$first, $last]
  | def across: $left + (log - $first) / ($last - $first) * width;
    def up: top + height - (log10 - $low) / ($high - $low) * height;
  (.y | text($left; top - 12; "name"; "start")),
  (range($low; $high + 1) | . as $decade | (top + height - ($decade - $low) / ($high - $low) * height) as $y
    | line($left; $y; $left + width; $y), ($decade | decade | text($left - 8; $y + 4; "tick"; "end"))),
  ($ticks[] | . as [$n, $name] | ($n | across) as $at
    | line($at; top + height; $at; top + height + 4), ($name | text($at; top + height + 18; "tick"; "middle"))),
  ($x | text($left + width / 2; top + height + 38; "name"; "middle")),
  (.series | length as $names | to_entries[] | colours[.key % 4] as $colour | .key as $key | .value
    | "<polyline fill=\"none\" stroke=\"\($colour)\" stroke-width=\"2\" points=\"\([.points[] | "\(.[0] | across | coordinate),\(.[1] | up | coordinate)"] | join(" "))\"/>",
      (.points[] | "<circle cx=\"\(.[0] | across | coordinate)\" cy=\"\(.[1] | up | coordinate)\" r=\"3\" fill=\"\($colour)\"><title>\(.[0]): \(.[1])</title></circle>"),
      (if $names > 1 then .name | "<text x=\"\($left + width - 64 * ($names - 1 - $key))\" y=\"\(top - 12)\" text-anchor=\"end\" font-weight=\"600\" fill=\"\($colour)\">\(escaped)</text>" else empty end));

. as {$title, $x, $ticks}
| (2 * (width + left + 28)) as $width
| [
"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \($width) \(top + height + 52)\" width=\"\($width)\" font-family=\"system-ui, sans-serif\" font-size=\"12\" role=\"img\">",
"<title>\($title | escaped)</title>",
"<style>.title { font-size: 15px; font-weight: 600; fill: #57606a } .name { fill: #57606a } .tick { fill: #6e7781 } .grid { stroke: #8c959f; stroke-opacity: .35 }",
"@media (prefers-color-scheme: dark) { .title, .name { fill: #c9d1d9 } .tick { fill: #9da7b1 } }</style>",
($title | text(left; 18; "title"; "start")),
(.panels | to_entries[] | .key as $index | .value | panel($index; $x; $ticks)),
"</svg>"
] | join("\n")
