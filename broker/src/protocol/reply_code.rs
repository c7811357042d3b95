//! The one table of reply codes.

/// What a reply code does to the channel or connection it is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closes {
    /// Only information, for example inside basic.return.
    Nothing,
    /// A soft error: the channel, or the connection when it concerns channel 0.
    Channel,
    /// A hard error: always the connection.
    Connection,
}

macro_rules! reply_codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $name:literal $closes:ident;)*) => {
        /// A reply code of AMQP 0-9-1 (section 1.3 of the specification) as RabbitMQ uses it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ReplyCode {
            $($(#[$doc])* $variant,)*
        }

        impl ReplyCode {
            /// Every reply code, by ascending number.
            pub const ALL: &'static [ReplyCode] = &[$(ReplyCode::$variant,)*];

            /// The number on the wire.
            pub const fn number(self) -> u16 {
                match self {
                    $(ReplyCode::$variant => $number,)*
                }
            }

            /// The name that a reply text starts with, for example `NOT_FOUND`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ReplyCode::$variant => $name,)*
                }
            }

            const fn closes(self) -> Closes {
                match self {
                    $(ReplyCode::$variant => Closes::$closes,)*
                }
            }

            /// The reply code of this number, if there is one.
            pub const fn from_number(number: u16) -> Option<ReplyCode> {
                match number {
                    $($number => Some(ReplyCode::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

reply_codes! {
    /// All is well; used when a channel or connection is closed in good order.
    ReplySuccess = 200 "REPLY_SUCCESS" Nothing;
    /// Content that cannot be taken at this time.
    ContentTooLarge = 311 "CONTENT_TOO_LARGE" Channel;
    /// A mandatory message found no queue.
    NoRoute = 312 "NO_ROUTE" Channel;
    /// An immediate message found no consumer.
    NoConsumers = 313 "NO_CONSUMERS" Channel;
    /// An operator or the broker itself closes the connection.
    ConnectionForced = 320 "CONNECTION_FORCED" Connection;
    /// An unknown virtual host; RabbitMQ sends 530 instead.
    InvalidPath = 402 "INVALID_PATH" Connection;
    /// Permissions, reserved names and failed logins.
    AccessRefused = 403 "ACCESS_REFUSED" Channel;
    /// The queue or exchange does not exist.
    NotFound = 404 "NOT_FOUND" Channel;
    /// The queue is exclusive to another connection.
    ResourceLocked = 405 "RESOURCE_LOCKED" Channel;
    /// Inequivalent arguments, unknown delivery tags, and whatever else the client could have known.
    PreconditionFailed = 406 "PRECONDITION_FAILED" Channel;
    /// A frame that cannot be decoded.
    FrameError = 501 "FRAME_ERROR" Connection;
    /// A field with an illegal value.
    SyntaxError = 502 "SYNTAX_ERROR" Connection;
    /// A method that makes no sense here.
    CommandInvalid = 503 "COMMAND_INVALID" Connection;
    /// A method on a channel that is not open, or open on one that is.
    ChannelError = 504 "CHANNEL_ERROR" Connection;
    /// A frame out of its place.
    UnexpectedFrame = 505 "UNEXPECTED_FRAME" Connection;
    /// The broker lacks what the method needs.
    ResourceError = 506 "RESOURCE_ERROR" Connection;
    /// Something a client may never do.
    NotAllowed = 530 "NOT_ALLOWED" Connection;
    /// Something the broker does not do.
    NotImplemented = 540 "NOT_IMPLEMENTED" Connection;
    /// A fault of the broker.
    InternalError = 541 "INTERNAL_ERROR" Connection;
}

impl ReplyCode {
    /// Whether an error with this code closes the connection whatever channel it arose on.
    pub const fn is_hard(self) -> bool {
        matches!(self.closes(), Closes::Connection)
    }

    /// Whether an error with this code closes only the channel it arose on (if that is not channel 0).
    pub const fn is_soft(self) -> bool {
        matches!(self.closes(), Closes::Channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amq_protocol::protocol::{AMQPHardError, AMQPSoftError};

    #[test]
    fn numbers_names_and_levels_agree_with_the_specification() {
        for &code in ReplyCode::ALL {
            assert_eq!(ReplyCode::from_number(code.number()), Some(code));
            let soft = AMQPSoftError::from_id(code.number());
            let hard = AMQPHardError::from_id(code.number());
            assert_eq!(code.is_soft(), soft.is_some(), "{code:?}");
            assert_eq!(code.is_hard(), hard.is_some(), "{code:?}");
            let name = soft
                .map(|error| error.to_string())
                .or(hard.map(|error| error.to_string()));
            assert_eq!(code.name().replace('_', "-"), name.unwrap_or("REPLY-SUCCESS".into()));
        }
        assert_eq!(ReplyCode::from_number(201), None);
    }

    #[test]
    fn every_code_of_the_specification_is_in_the_table() {
        for number in 0..=u16::MAX {
            let known = AMQPSoftError::from_id(number).is_some() || AMQPHardError::from_id(number).is_some();
            assert_eq!(ReplyCode::from_number(number).is_some(), known || number == 200);
        }
    }
}
