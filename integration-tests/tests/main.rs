//! Every file here is a feature, seen from outside: the real binary over TCP.

mod consuming;
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
mod publishing;
mod queues;
