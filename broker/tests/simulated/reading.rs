//! What a simulated client makes of the octets it reads.

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, tx};

use super::model::Id;

/// What matters to the simulation.
#[derive(Debug)]
pub enum Heard {
    Delivered {
        consumer_tag: String,
        delivery_tag: u64,
        redelivered: bool,
        id: Id,
    },
    Got {
        delivery_tag: u64,
        redelivered: bool,
        id: Id,
    },
    GotNothing,
    Confirmed {
        number: u64,
        multiple: bool,
    },
    Committed,
    /// channel.close or connection.close, of which there should be none.
    Closed(String),
}

/// Everything in `octets`, which end with a whole frame.
pub fn heard(octets: &[u8]) -> Vec<Heard> {
    let mut all = Vec::new();
    let mut rest = octets;
    let mut waiting: Option<Content> = None;
    while !rest.is_empty() {
        let (left, frame) = parse_frame(rest).unwrap();
        rest = left;
        match frame {
            AMQPFrame::Method(_, class) => match class {
                AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver)) => {
                    waiting = Some(Content::new(Kind::Deliver(deliver)))
                }
                AMQPClass::Basic(basic::AMQPMethod::GetOk(ok)) => waiting = Some(Content::new(Kind::Get(ok))),
                other => all.extend(plain(other)),
            },
            AMQPFrame::Header(_, header) => waiting.as_mut().unwrap().size = header.body_size,
            AMQPFrame::Body(_, body) => waiting.as_mut().unwrap().body.extend_from_slice(&body),
            other => panic!("{other:?}"),
        }
        if let Some(content) = waiting.take_if(|content| content.body.len() as u64 == content.size) {
            all.push(content.heard());
        }
    }
    assert!(waiting.is_none());
    all
}

fn plain(class: AMQPClass) -> Option<Heard> {
    match class {
        AMQPClass::Basic(basic::AMQPMethod::GetEmpty(_)) => Some(Heard::GotNothing),
        AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => Some(Heard::Confirmed {
            number: ack.delivery_tag,
            multiple: ack.multiple,
        }),
        AMQPClass::Tx(tx::AMQPMethod::CommitOk(_)) => Some(Heard::Committed),
        AMQPClass::Channel(amq_protocol::protocol::channel::AMQPMethod::Close(close)) => {
            Some(Heard::Closed(format!("{close:?}")))
        }
        AMQPClass::Connection(amq_protocol::protocol::connection::AMQPMethod::Close(close)) => {
            Some(Heard::Closed(format!("{close:?}")))
        }
        _ => None,
    }
}

enum Kind {
    Deliver(basic::Deliver),
    Get(basic::GetOk),
}

struct Content {
    kind: Kind,
    size: u64,
    body: Vec<u8>,
}

impl Content {
    fn new(kind: Kind) -> Content {
        Content {
            kind,
            size: u64::MAX,
            body: Vec::new(),
        }
    }

    fn heard(self) -> Heard {
        let id = Id::of_body(&self.body);
        match self.kind {
            Kind::Deliver(basic::Deliver {
                consumer_tag,
                delivery_tag,
                redelivered,
                ..
            }) => Heard::Delivered {
                consumer_tag: consumer_tag.to_string(),
                delivery_tag,
                redelivered,
                id,
            },
            Kind::Get(basic::GetOk {
                delivery_tag,
                redelivered,
                ..
            }) => Heard::Got {
                delivery_tag,
                redelivered,
                id,
            },
        }
    }
}
