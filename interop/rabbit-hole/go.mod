module leveret/interop/management

go 1.24

require github.com/michaelklishin/rabbit-hole/v2 v2.12.0
