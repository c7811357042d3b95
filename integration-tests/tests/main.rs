//! Every file here is a feature, seen from outside: the real binary over TCP.
