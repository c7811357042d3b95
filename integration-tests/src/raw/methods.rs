//! One trait over the structs of all methods, so that tests name `queue::Declare` and not the enums around it.

use super::{AMQPClass, access, basic, channel, confirm, connection, exchange, queue, tx};

/// A method that can be sent or expected.
pub trait Method: Sized {
    /// As the specification writes it, such as `queue.declare-ok`.
    const NAME: &str;

    fn wrap(self) -> AMQPClass;

    /// Gives back any other method.
    fn unwrap_from(method: AMQPClass) -> Result<Self, AMQPClass>;
}

/// A method that is answered by one other method.
pub trait Request: Method {
    type Answer: Method;
}

impl Method for AMQPClass {
    const NAME: &str = "a method";

    fn wrap(self) -> AMQPClass {
        self
    }

    fn unwrap_from(method: AMQPClass) -> Result<Self, AMQPClass> {
        Ok(method)
    }
}

macro_rules! methods {
    ($($class:ident $variant:ident { $($method:ident)* })*) => {$($(
        impl Method for $class::$method {
            const NAME: &str = concat!(stringify!($class), ".", stringify!($method));

            fn wrap(self) -> AMQPClass {
                AMQPClass::$variant($class::AMQPMethod::$method(self))
            }

            fn unwrap_from(method: AMQPClass) -> Result<Self, AMQPClass> {
                match method {
                    AMQPClass::$variant($class::AMQPMethod::$method(method)) => Ok(method),
                    other => Err(other),
                }
            }
        }
    )*)*};
}

macro_rules! requests {
    ($($class:ident: $($request:ident $answer:ident),*;)*) => {$($(
        impl Request for $class::$request {
            type Answer = $class::$answer;
        }
    )*)*};
}

methods! {
    connection Connection {
        Start StartOk Secure SecureOk Tune TuneOk Open OpenOk Close CloseOk Blocked Unblocked UpdateSecret UpdateSecretOk
    }
    channel Channel { Open OpenOk Flow FlowOk Close CloseOk }
    access Access { Request RequestOk }
    exchange Exchange { Declare DeclareOk Delete DeleteOk Bind BindOk Unbind UnbindOk }
    queue Queue { Declare DeclareOk Bind BindOk Purge PurgeOk Delete DeleteOk Unbind UnbindOk }
    basic Basic {
        Qos QosOk Consume ConsumeOk Cancel CancelOk Publish Return Deliver Get GetOk GetEmpty Ack Reject RecoverAsync
        Recover RecoverOk Nack
    }
    confirm Confirm { Select SelectOk }
    tx Tx { Select SelectOk Commit CommitOk Rollback RollbackOk }
}

requests! {
    connection: Open OpenOk, UpdateSecret UpdateSecretOk;
    channel: Open OpenOk, Flow FlowOk, Close CloseOk;
    access: Request RequestOk;
    exchange: Declare DeclareOk, Delete DeleteOk, Bind BindOk, Unbind UnbindOk;
    queue: Declare DeclareOk, Bind BindOk, Purge PurgeOk, Delete DeleteOk, Unbind UnbindOk;
    basic: Qos QosOk, Consume ConsumeOk, Cancel CancelOk, Recover RecoverOk;
    confirm: Select SelectOk;
    tx: Select SelectOk, Commit CommitOk, Rollback RollbackOk;
}
