//! What the broker looks at in a message's properties: reply-to, expiration, CC and BCC with topic permissions, user id, in
//! RabbitMQ's order.

use amq_protocol::types::AMQPValue;
use leveret_routing::type_name;

use super::{Session, reply_to};
use crate::auth::permissions::Operation;
use crate::protocol::content::{ContentHeader, Properties, properties_error};
use crate::protocol::error::AmqpError;
use crate::protocol::field_table::{decode_table, without_key};
use crate::protocol::reply_code::ReplyCode;
use crate::protocol::rewrite::{Change, HeaderChanges, rewrite};
use crate::protocol::stamp::Stamped;

/// Longest time to live in a message's expiration: ten years, as in RabbitMQ.
const EXPIRATION_MILLIS_MAX: i128 = 315_360_000_000;

/// What the properties of a message change about it.
#[derive(Default)]
pub struct Adjustments {
    /// The content header to deliver instead of the one that came.
    pub header: Option<Vec<u8>>,
    /// Routing keys of CC and BCC.
    pub further_keys: Vec<String>,
}

impl Session {
    /// Reply-to, expiration, CC and BCC, topic permissions, user id.
    pub(super) fn check_properties(
        &mut self,
        channel: u16,
        header: &ContentHeader<'_>,
        properties: &Properties<'_>,
        unchecked: Unchecked<'_>,
    ) -> Result<Adjustments, AmqpError> {
        let failed = |text: String| AmqpError::new(ReplyCode::PreconditionFailed, text);
        let mut reply_name = None;
        if properties.reply_to == Some(reply_to::PSEUDO_QUEUE) {
            let token = self
                .channel_slot(channel)
                .and_then(|channel| channel.reply_token.clone());
            let token = token.ok_or_else(|| failed("fast reply consumer does not exist".to_owned()))?;
            reply_name = Some(reply_to::name(&token));
        }
        if let Some(expiration) = properties.expiration {
            check_expiration(expiration).map_err(failed)?;
        }
        let further_keys = further_routing_keys(properties.headers)?;
        self.check_topics(&unchecked, &further_keys)?;
        if let Some(user_id) = properties.user_id {
            let user = self.info.user();
            let users = &self.broker.users;
            let may_impersonate = || {
                self.open
                    .as_ref()
                    .is_some_and(|opened| opened.who.is_impersonator(users))
            };
            if *user_id != *user && !may_impersonate() {
                return Err(failed(format!(
                    "user_id property set to '{user_id}' but authenticated user was '{user}'"
                )));
            }
        }
        let without_bcc = properties.headers.and_then(|headers| without_key(headers, "BCC"));
        let stamped = self.stamp(properties, without_bcc.as_deref());
        let headers = stamped.headers.or(without_bcc);
        if reply_name.is_none() && headers.is_none() && stamped.timestamp.is_none() {
            return Ok(Adjustments {
                header: None,
                further_keys,
            });
        }
        let changes = HeaderChanges {
            reply_to: reply_name.as_deref().map_or(Change::Keep, Change::Set),
            headers: headers.as_deref().map_or(Change::Keep, Change::Set),
            timestamp: stamped.timestamp.map_or(Change::Keep, Change::Set),
            ..HeaderChanges::default()
        };
        let header = rewrite(header.payload, &changes).map_err(|cause| properties_error(cause, header.properties))?;
        Ok(Adjustments {
            header: Some(header),
            further_keys,
        })
    }
}

impl Session {
    /// What the configured stamps change about a message; `headers` are its headers if they have changed already.
    fn stamp(&self, properties: &Properties<'_>, headers: Option<&[u8]>) -> Stamped {
        if !self.config.stamps_messages() {
            return Stamped::default();
        }
        let properties = Properties {
            headers: headers.or(properties.headers),
            ..*properties
        };
        self.config.stamps(self.broker.timer.now_millis()).put_on(&properties)
    }
}

/// Where a message goes, as far as topic permissions have not allowed it before.
pub struct Unchecked<'a> {
    /// The exchange.
    pub exchange: &'a str,
    /// Its routing key; none when a known route says that it was allowed.
    pub routing_key: Option<&'a str>,
}

impl Session {
    fn check_topics(&self, unchecked: &Unchecked<'_>, further_keys: &[String]) -> Result<(), AmqpError> {
        let Some(opened) = &self.open else { return Ok(()) };
        let keys = further_keys.iter().map(String::as_str);
        let keys = unchecked.routing_key.into_iter().chain(keys);
        let checked = opened
            .vhost
            .check_topics(&opened.actor, Operation::Write, unchecked.exchange, keys);
        Ok(checked?)
    }
}

/// RabbitMQ's rules for a message's expiration, and its words.
pub fn check_expiration(expiration: &str) -> Result<(), String> {
    let digits = expiration.strip_prefix(['-', '+']).unwrap_or(expiration);
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    let invalid = |reason: String| Err(format!("invalid expiration '{expiration}': {reason}"));
    if length == 0 {
        return invalid("no_integer".to_owned());
    }
    if length < digits.len() {
        return invalid(format!("{{leftover_string,\"{}\"}}", &digits[length..]));
    }
    match expiration.parse::<i128>() {
        Ok(value) if value < 0 => invalid(format!("{{value_negative,{value}}}")),
        Ok(value) if value <= EXPIRATION_MILLIS_MAX => Ok(()),
        _ => invalid(format!("{{value_too_large,{}}}", expiration.trim_start_matches('+'))),
    }
}

/// The routing keys in the CC and BCC headers.
pub fn further_routing_keys(headers: Option<&[u8]>) -> Result<Vec<String>, AmqpError> {
    let Some(headers) = headers else { return Ok(Vec::new()) };
    let mentions = |name: &[u8]| headers.windows(name.len()).any(|window| window == name);
    if !mentions(b"CC") {
        return Ok(Vec::new());
    }
    let table = decode_table(headers)?;
    let mut keys = Vec::new();
    for name in ["CC", "BCC"] {
        let unacceptable = |type_name: &str| {
            let text = format!("invalid message: {{unacceptable_type_in_header,\"{name}\",{type_name}}}");
            AmqpError::new(ReplyCode::PreconditionFailed, text)
        };
        match table.inner().get(name) {
            None => {}
            Some(AMQPValue::FieldArray(values)) => {
                // What is no string among the keys is passed over.
                let texts = values.as_slice().iter().filter_map(|value| match value {
                    AMQPValue::LongString(key) => Some(key.to_string()),
                    _ => None,
                });
                keys.extend(texts);
            }
            Some(other) => return Err(unacceptable(type_name(other))),
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::field_table::encode_table;
    use amq_protocol::types::{FieldArray, FieldTable};

    #[test]
    fn expirations_are_judged_in_the_words_of_rabbitmq() {
        for good in ["0", "60000", "315360000000"] {
            assert_eq!(check_expiration(good), Ok(()), "{good}");
        }
        for (bad, reason) in [
            ("abc", "no_integer"),
            ("", "no_integer"),
            ("5s", "{leftover_string,\"s\"}"),
            ("-1", "{value_negative,-1}"),
            ("315360000001", "{value_too_large,315360000001}"),
        ] {
            assert_eq!(
                check_expiration(bad),
                Err(format!("invalid expiration '{bad}': {reason}"))
            );
        }
    }

    #[test]
    fn among_further_keys_only_texts_count() {
        let mut keys = FieldArray::default();
        keys.push(AMQPValue::LongInt(1));
        keys.push(AMQPValue::LongString("q".into()));
        let mut table = FieldTable::default();
        table.insert("CC".into(), AMQPValue::FieldArray(keys));
        let mut encoded = Vec::new();
        encode_table(&table, &mut encoded);
        assert_eq!(further_routing_keys(Some(&encoded)), Ok(vec!["q".to_owned()]));
    }
}
