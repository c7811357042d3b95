//! Expecting what a broker says when it is not pleased.

use super::{AMQPClass, AMQPFrame, RawClient, channel, connection};
use std::fmt;
use std::time::Duration;

/// How a reply text is compared.
#[derive(Clone, Debug)]
pub enum Text {
    Exactly(String),
    StartingWith(String),
    /// For texts in the middle of which the codec of another broker would print something else.
    Between(String, String),
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::Exactly(text.to_owned())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Exactly(text)
    }
}

impl Text {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exactly(expected) => text == expected,
            Self::StartingWith(expected) => text.starts_with(expected),
            Self::Between(start, end) => text.starts_with(start) && text.ends_with(end),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(text) => write!(f, "{text}"),
            Self::StartingWith(text) => write!(f, "{text} ..."),
            Self::Between(start, end) => write!(f, "{start} ... {end}"),
        }
    }
}

impl RawClient {
    /// Reads the `channel.close` that must come next on `channel`, confirms it, and makes sure that it cost the
    /// channel only: the channel can be opened again. `ids` are class and method of what failed.
    #[track_caller]
    pub fn expect_channel_close(&mut self, channel: u16, code: u16, ids: (u16, u16), text: impl Into<Text>) {
        let text = text.into();
        let close = self.read_close();
        let expected = Close::new(Level::Channel(channel), code, ids, text.to_string());
        close.assert_is(&expected, &text);
        self.send(channel, channel::CloseOk {});
        self.open_channel(channel);
    }

    /// Reads the `connection.close` that must come next, confirms it, and waits for the end of the stream.
    #[track_caller]
    pub fn expect_connection_close(&mut self, code: u16, ids: (u16, u16), text: impl Into<Text>) {
        let text = text.into();
        let close = self.read_close();
        let expected = Close::new(Level::Connection, code, ids, text.to_string());
        close.assert_is(&expected, &text);
        self.send(0, connection::CloseOk {});
        self.expect_end_of_stream();
    }

    /// Waits until the broker has closed the socket. It may send nothing before but heartbeats.
    #[track_caller]
    pub fn expect_end_of_stream(&mut self) {
        self.expect_end_of_stream_within(crate::wait::DEADLINE);
    }

    /// As [`RawClient::expect_end_of_stream`] with a deadline of its own.
    #[track_caller]
    pub fn expect_end_of_stream_within(&mut self, time: Duration) {
        loop {
            match self.next_frame_within(time) {
                None => return,
                Some(AMQPFrame::Heartbeat) => {}
                Some(frame) => panic!("expected the end of the stream, got {frame:?}"),
            }
        }
    }

    /// Reads up to the next close method, over deliveries and confirms that were on their way.
    #[track_caller]
    fn read_close(&mut self) -> Close {
        loop {
            match self.next_frame() {
                Some(AMQPFrame::Method(channel, AMQPClass::Channel(channel::AMQPMethod::Close(close)))) => {
                    let ids = (close.class_id, close.method_id);
                    return Close::new(
                        Level::Channel(channel),
                        close.reply_code,
                        ids,
                        close.reply_text.to_string(),
                    );
                }
                Some(AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))) => {
                    let ids = (close.class_id, close.method_id);
                    return Close::new(Level::Connection, close.reply_code, ids, close.reply_text.to_string());
                }
                Some(AMQPFrame::Method(channel, AMQPClass::Basic(_))) if channel > 0 => {}
                Some(AMQPFrame::Heartbeat | AMQPFrame::Header(..) | AMQPFrame::Body(..)) => {}
                Some(other) => panic!("expected a close, got {other:?}"),
                None => panic!("expected a close, but the socket was closed without one"),
            }
        }
    }
}

#[derive(Debug, PartialEq)]
enum Level {
    Connection,
    Channel(u16),
}

/// All that a close says.
#[derive(Debug)]
struct Close {
    level: Level,
    code: u16,
    ids: (u16, u16),
    text: String,
}

impl Close {
    fn new(level: Level, code: u16, ids: (u16, u16), text: String) -> Self {
        Self { level, code, ids, text }
    }

    #[track_caller]
    fn assert_is(&self, expected: &Self, text: &Text) {
        let same = self.level == expected.level && self.code == expected.code && self.ids == expected.ids;
        assert!(
            same && text.matches(&self.text),
            "\n     got {self}\nexpected {expected}"
        );
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (class_id, method_id) = self.ids;
        write!(
            f,
            "{:?} {} {class_id}/{method_id} {:?}",
            self.level, self.code, self.text
        )
    }
}
