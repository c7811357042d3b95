//! Every method of AMQP 0-9-1 with RabbitMQ's extensions: ids, name, sender, and the types of its arguments in order.

/// The type of one argument on the wire. Adjacent bits share octets, so that `Bits` stands for all bits of a method:
/// no method has more than eight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    Bits,
    Octet,
    Short,
    Long,
    LongLong,
    ShortStr,
    LongStr,
    Table,
}

/// One method.
#[derive(Debug)]
pub(crate) struct MethodSpec {
    pub(crate) name: &'static str,
    /// Whether a client may send it; the rest is for the server to send.
    pub(crate) from_client: bool,
    pub(crate) arguments: &'static [Argument],
}

macro_rules! methods {
    ($($class_id:literal $method_id:literal $name:literal $sender:ident [$($argument:ident)*];)*) => {
        /// The method of these ids, if there is one.
        pub(crate) fn spec(class_id: u16, method_id: u16) -> Option<&'static MethodSpec> {
            match (class_id, method_id) {
                $(($class_id, $method_id) => Some(const {
                    &MethodSpec {
                        name: $name,
                        from_client: methods!(@from_client $sender),
                        arguments: &[$(Argument::$argument,)*],
                    }
                }),)*
                _ => None,
            }
        }

        /// Ids of every method in the table.
        #[cfg(test)]
        pub(crate) const ALL_IDS: &[(u16, u16)] = &[$(($class_id, $method_id),)*];
    };
    (@from_client client) => { true };
    (@from_client both) => { true };
    (@from_client server) => { false };
}

methods! {
    10 10 "connection.start" server [Octet Octet Table LongStr LongStr];
    10 11 "connection.start-ok" client [Table ShortStr LongStr ShortStr];
    10 20 "connection.secure" server [LongStr];
    10 21 "connection.secure-ok" client [LongStr];
    10 30 "connection.tune" server [Short Long Short];
    10 31 "connection.tune-ok" client [Short Long Short];
    10 40 "connection.open" client [ShortStr ShortStr Bits];
    10 41 "connection.open-ok" server [ShortStr];
    10 50 "connection.close" both [Short ShortStr Short Short];
    10 51 "connection.close-ok" both [];
    10 60 "connection.blocked" server [ShortStr];
    10 61 "connection.unblocked" server [];
    10 70 "connection.update-secret" client [LongStr ShortStr];
    10 71 "connection.update-secret-ok" server [];
    20 10 "channel.open" client [ShortStr];
    20 11 "channel.open-ok" server [LongStr];
    20 20 "channel.flow" both [Bits];
    20 21 "channel.flow-ok" both [Bits];
    20 40 "channel.close" both [Short ShortStr Short Short];
    20 41 "channel.close-ok" both [];
    30 10 "access.request" client [ShortStr Bits];
    30 11 "access.request-ok" server [Short];
    40 10 "exchange.declare" client [Short ShortStr ShortStr Bits Table];
    40 11 "exchange.declare-ok" server [];
    40 20 "exchange.delete" client [Short ShortStr Bits];
    40 21 "exchange.delete-ok" server [];
    40 30 "exchange.bind" client [Short ShortStr ShortStr ShortStr Bits Table];
    40 31 "exchange.bind-ok" server [];
    40 40 "exchange.unbind" client [Short ShortStr ShortStr ShortStr Bits Table];
    40 51 "exchange.unbind-ok" server [];
    50 10 "queue.declare" client [Short ShortStr Bits Table];
    50 11 "queue.declare-ok" server [ShortStr Long Long];
    50 20 "queue.bind" client [Short ShortStr ShortStr ShortStr Bits Table];
    50 21 "queue.bind-ok" server [];
    50 30 "queue.purge" client [Short ShortStr Bits];
    50 31 "queue.purge-ok" server [Long];
    50 40 "queue.delete" client [Short ShortStr Bits];
    50 41 "queue.delete-ok" server [Long];
    50 50 "queue.unbind" client [Short ShortStr ShortStr ShortStr Table];
    50 51 "queue.unbind-ok" server [];
    60 10 "basic.qos" client [Long Short Bits];
    60 11 "basic.qos-ok" server [];
    60 20 "basic.consume" client [Short ShortStr ShortStr Bits Table];
    60 21 "basic.consume-ok" server [ShortStr];
    60 30 "basic.cancel" both [ShortStr Bits];
    60 31 "basic.cancel-ok" both [ShortStr];
    60 40 "basic.publish" client [Short ShortStr ShortStr Bits];
    60 50 "basic.return" server [Short ShortStr ShortStr ShortStr];
    60 60 "basic.deliver" server [ShortStr LongLong Bits ShortStr ShortStr];
    60 70 "basic.get" client [Short ShortStr Bits];
    60 71 "basic.get-ok" server [LongLong Bits ShortStr ShortStr Long];
    60 72 "basic.get-empty" server [ShortStr];
    60 80 "basic.ack" both [LongLong Bits];
    60 90 "basic.reject" client [LongLong Bits];
    60 100 "basic.recover-async" client [Bits];
    60 110 "basic.recover" client [Bits];
    60 111 "basic.recover-ok" server [];
    60 120 "basic.nack" both [LongLong Bits];
    85 10 "confirm.select" client [Bits];
    85 11 "confirm.select-ok" server [];
    90 10 "tx.select" client [];
    90 11 "tx.select-ok" server [];
    90 20 "tx.commit" client [];
    90 21 "tx.commit-ok" server [];
    90 30 "tx.rollback" client [];
    90 31 "tx.rollback-ok" server [];
}
