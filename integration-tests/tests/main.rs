//! Every file here is a feature, seen from outside: the real binary over TCP.

mod access;
mod catalogue;
mod connections;
mod consuming;
mod direct_reply_to;
mod durability;
mod errors_channel;
mod errors_consume;
mod errors_exchange;
mod errors_framing;
mod errors_permission;
mod errors_publish;
mod errors_queue;
mod errors_setup;
mod errors_tx;
mod exchanges;
mod garbage;
mod heartbeats;
mod limits;
mod metrics;
mod nested_tables;
mod publishing;
mod queues;
mod scale;
mod stress;
mod transactions;
