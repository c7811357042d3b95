//! From the protocol header to `connection.open-ok`.
//!
//! ```text
//!   Header ──header ok──▶ StartSent ──start-ok──▶ Authenticating ──accepted──▶ TuneSent ──tune-ok──▶ OpenDue ──open──▶ Running
//! ```
//!
//! Before the login is accepted every mistake is answered with silence: the socket is dropped after
//! [`REFUSAL_DELAY`], as RabbitMQ does, so that guessing costs time and tells nothing.

use std::time::{Duration, Instant};

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::connection::{AMQPMethod, Close, OpenOk, Start, StartOk, Tune, TuneOk};
use amq_protocol::types::{AMQPValue, FieldTable, LongString};

use super::{Opened, Pause, Phase, Session, short};
use crate::auth::sasl::{Credentials, Mechanism, SaslError};
use crate::auth::{Authenticated, LoginRefused};
use crate::protocol::error::AmqpError;
use crate::protocol::frame::{Frame, FrameKind};
use crate::protocol::method;
use crate::protocol::protocol_header::{AMQP_0_9_1, PROTOCOL_HEADER_LEN, ProtocolHeader, recognise};
use crate::protocol::reply_code::ReplyCode;
use crate::vhost::Actor;

/// How long a refused client waits for its socket to close.
pub const REFUSAL_DELAY: Duration = Duration::from_secs(3);
/// The smallest frame size a client may ask for; the specification's frame-min-size.
const FRAME_MAX_MIN: u32 = 4096;

/// What has been reached of the handshake.
pub struct Handshake {
    /// The connection must be open by then.
    pub deadline: Instant,
    step: Step,
}

enum Step {
    Header,
    StartSent,
    Authenticating { login: Option<Login>, mechanism: Mechanism },
    TuneSent { user: Authenticated },
    OpenDue { user: Authenticated },
}

/// Who the client says it is, to be checked.
pub enum Login {
    /// By name and password.
    Password(Credentials),
    /// By a name that needs no proof any more: its certificate has given it, or it is the one for strangers.
    Name(String),
}

impl Handshake {
    /// The handshake of a connection that has sent nothing yet.
    pub fn new(deadline: Instant) -> Handshake {
        Handshake {
            deadline,
            step: Step::Header,
        }
    }

    /// Do the first eight bytes still have to come?
    pub fn expects_protocol_header(&self) -> bool {
        matches!(self.step, Step::Header)
    }

    /// The login to check, once.
    pub fn take_login(&mut self) -> Option<Login> {
        match &mut self.step {
            Step::Authenticating { login, .. } => login.take(),
            _ => None,
        }
    }

    /// From here on the client knows who it talks to, so it is told what was wrong.
    fn is_logged_in(&self) -> bool {
        matches!(self.step, Step::TuneSent { .. } | Step::OpenDue { .. })
    }
}

impl Session {
    pub(super) fn receive_protocol_header(&mut self, input: &[u8]) -> usize {
        match recognise(input) {
            ProtocolHeader::Incomplete => 0,
            ProtocolHeader::Amqp => {
                self.send_start();
                self.set_step(Step::StartSent);
                PROTOCOL_HEADER_LEN
            }
            ProtocolHeader::Wrong(mistake) => {
                tracing::warn!(connection = %self.info.name, "{mistake}");
                self.outbox.lock().bytes_mut().extend_from_slice(&AMQP_0_9_1);
                self.phase = Phase::Finished;
                input.len()
            }
        }
    }

    fn set_step(&mut self, step: Step) {
        if let Phase::Handshake(handshake) = &mut self.phase {
            handshake.step = step;
        }
    }

    /// May a failure of the handshake be answered with connection.close?
    pub(super) fn may_close_before_open(&self) -> bool {
        matches!(&self.phase, Phase::Handshake(handshake) if handshake.is_logged_in())
    }

    /// Falls silent and drops the socket after a while.
    pub(super) fn drop_later(&mut self, now: Instant) {
        self.phase = Phase::Dropping {
            deadline: now + REFUSAL_DELAY,
        };
    }

    fn send_start(&self) {
        let takes_strangers = !self.config.anonymous_login_user.is_empty();
        let start = Start {
            version_major: 0,
            version_minor: 9,
            server_properties: self.server_properties(),
            mechanisms: LongString::from(Mechanism::offered(
                self.info.certificate_login().is_ok(),
                takes_strangers,
            )),
            locales: LongString::from("en_US"),
        };
        self.reply(0, AMQPClass::Connection(AMQPMethod::Start(start)));
    }

    fn server_properties(&self) -> FieldTable {
        let config = &self.config;
        let mut capabilities = FieldTable::default();
        for capability in [
            "publisher_confirms",
            "exchange_exchange_bindings",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
            "consumer_priorities",
            "authentication_failure_close",
            "per_consumer_qos",
            "direct_reply_to",
        ] {
            capabilities.insert(short(capability), AMQPValue::Boolean(true));
        }
        let cluster_name = self.broker.cluster_name();
        let mut properties = FieldTable::default();
        properties.insert(short("capabilities"), AMQPValue::FieldTable(capabilities));
        for (name, value) in [
            ("product", config.product.as_str()),
            ("version", config.product_version.as_str()),
            ("platform", "Rust"),
            ("cluster_name", cluster_name.as_str()),
            ("information", "Licensed under the Apache License 2.0"),
        ] {
            properties.insert(short(name), AMQPValue::LongString(LongString::from(value)));
        }
        properties
    }

    pub(super) fn receive_handshake_frame(&mut self, now: Instant, frame: Frame<'_>) {
        let Phase::Handshake(handshake) = &mut self.phase else {
            return;
        };
        if frame.kind == FrameKind::Heartbeat && frame.channel == 0 {
            return;
        }
        if frame.kind != FrameKind::Method || frame.channel != 0 {
            let error = AmqpError::new(ReplyCode::UnexpectedFrame, "unexpected frame during the handshake");
            return self.fail_connection(now, error);
        }
        let method = match method::decode_method(frame.payload) {
            Ok(AMQPClass::Connection(method)) => method,
            Ok(_) => return self.refuse_method(now, frame.payload),
            Err(error) => return self.fail_connection(now, error.into()),
        };
        match (&handshake.step, method) {
            (Step::StartSent, AMQPMethod::StartOk(start_ok)) => self.receive_start_ok(now, start_ok),
            (Step::TuneSent { user }, AMQPMethod::TuneOk(tune_ok)) => {
                let user = user.clone();
                self.receive_tune_ok(now, user, tune_ok);
            }
            (Step::OpenDue { user }, AMQPMethod::Open(open)) => {
                let user = user.clone();
                if let Err(error) = self.open_vhost(now, &user, open.virtual_host.as_str()) {
                    self.fail_connection(now, error.at(10, 40));
                }
            }
            (_, AMQPMethod::Close(Close { .. })) => {
                self.reply(
                    0,
                    AMQPClass::Connection(AMQPMethod::CloseOk(amq_protocol::protocol::connection::CloseOk {})),
                );
                self.phase = Phase::Finished;
            }
            _ => self.refuse_method(now, frame.payload),
        }
    }

    /// A method that is not due: silence, as RabbitMQ answers it (ERRORS row 10).
    fn refuse_method(&mut self, now: Instant, payload: &[u8]) {
        let (class_id, method_id) = method::class_and_method(payload).unwrap_or_default();
        let name = method::method_name(class_id, method_id);
        tracing::warn!(connection = %self.info.name, "unexpected method during the handshake: {name}");
        self.drop_later(now);
    }

    fn receive_start_ok(&mut self, now: Instant, start_ok: StartOk) {
        self.read_client_properties(&start_ok.client_properties);
        let login = Mechanism::from_name(start_ok.mechanism.as_str())
            .and_then(|mechanism| Ok((self.read_login(mechanism, start_ok.response.as_bytes())?, mechanism)));
        match login {
            Ok((login, mechanism)) => {
                self.pause = Some(Pause::Login);
                self.set_step(Step::Authenticating {
                    login: Some(login),
                    mechanism,
                });
            }
            Err(error) => {
                tracing::warn!(connection = %self.info.name, "login refused: {error}");
                self.drop_later(now);
            }
        }
    }

    fn read_login(&self, mechanism: Mechanism, response: &[u8]) -> Result<Login, SaslError> {
        if let Some(credentials) = mechanism.credentials(response)? {
            return Ok(Login::Password(credentials));
        }
        if mechanism == Mechanism::Anonymous {
            return match self.config.anonymous_login_user.as_str() {
                "" => Err(SaslError::NoStrangers),
                name => Ok(Login::Name(name.to_owned())),
            };
        }
        match self.info.certificate_login() {
            Ok(name) => Ok(Login::Name(name.to_owned())),
            Err(reason) => Err(SaslError::NoCertificate { reason }),
        }
    }

    fn read_client_properties(&mut self, properties: &FieldTable) {
        let fields = properties.inner();
        if let Some(AMQPValue::FieldTable(capabilities)) = fields.get("capabilities") {
            let has = |name: &str| matches!(capabilities.inner().get(name), Some(AMQPValue::Boolean(true)));
            self.client.takes_authentication_failure = has("authentication_failure_close");
            self.client.takes_consumer_cancel = has("consumer_cancel_notify");
            self.client.takes_blocked = has("connection.blocked");
        }
        let text = |name: &str| match fields.get(name) {
            Some(AMQPValue::LongString(text)) => Some(text.to_string()),
            _ => None,
        };
        self.client.client_id = text("client_id");
        self.info
            .set_client(text("connection_name"), text("product"), text("version"));
        self.info.set_properties(self.broker.client_properties.keep(properties));
    }

    /// The answer to [`take_login`](Session::take_login).
    pub fn login_result<A: Into<Authenticated>>(&mut self, now: Instant, result: Result<A, LoginRefused>) {
        let result = result.map(Into::into);
        if self.checks_secret {
            return self.secret_result(now, result);
        }
        let Phase::Handshake(Handshake {
            step: Step::Authenticating { mechanism, .. },
            ..
        }) = &self.phase
        else {
            return;
        };
        let mechanism = mechanism.name();
        self.pause = None;
        match result {
            Ok(user) => {
                self.broker.counters.amqp_logins.count(true);
                self.info.set_user(&user.user.name, mechanism);
                self.expires = user.ends(now);
                self.set_step(Step::TuneSent { user });
                self.send_tune();
            }
            Err(reason) => {
                self.broker.counters.amqp_logins.count(false);
                tracing::warn!(connection = %self.info.name, "login refused: {reason}");
                if !self.client.takes_authentication_failure {
                    return self.drop_later(now);
                }
                let text = format!(
                    "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
                );
                self.send_close(&AmqpError::new(ReplyCode::AccessRefused, text));
                self.phase = Phase::Closing {
                    deadline: now + REFUSAL_DELAY,
                };
            }
        }
    }

    fn send_tune(&self) {
        let config = &self.config;
        let tune = Tune {
            channel_max: config.channel_max,
            frame_max: config.frame_max,
            heartbeat: config.heartbeat,
        };
        self.reply(0, AMQPClass::Connection(AMQPMethod::Tune(tune)));
    }

    fn receive_tune_ok(&mut self, now: Instant, user: Authenticated, tune_ok: TuneOk) {
        if let Err(explanation) = self.check_tune(&tune_ok) {
            return self.fail_connection(now, AmqpError::new(ReplyCode::NotAllowed, explanation).at(10, 31));
        }
        self.frame_max = tune_ok.frame_max;
        self.channel_max = tune_ok.channel_max;
        self.outbox.lock().set_frame_max(tune_ok.frame_max);
        // The client's word is the negotiated value; it starts to count when the connection is open.
        self.heartbeat.start(tune_ok.heartbeat, now);
        self.info.set_tuning(tune_ok.frame_max, tune_ok.heartbeat);
        self.set_step(Step::OpenDue { user });
    }

    /// Refuses what the client may not negotiate, in RabbitMQ's words.
    fn check_tune(&self, tune_ok: &TuneOk) -> Result<(), String> {
        let config = &self.config;
        let too_low = |name: &str, value: u32, min: u32| {
            Err(format!(
                "negotiated {name} = {value} is lower than the minimum allowed value ({min})"
            ))
        };
        let too_high = |name: &str, value: u32, max: u32| {
            let shown = if value == 0 {
                "0 (no limit)".to_owned()
            } else {
                value.to_string()
            };
            Err(format!(
                "negotiated {name} = {shown} is higher than the maximum allowed value ({max})"
            ))
        };
        match tune_ok.frame_max {
            value if value == 0 || value > config.frame_max => return too_high("frame_max", value, config.frame_max),
            value if value < FRAME_MAX_MIN => return too_low("frame_max", value, FRAME_MAX_MIN),
            _ => {}
        }
        match tune_ok.channel_max {
            value if value == 0 || value > config.channel_max => {
                too_high("channel_max", value.into(), config.channel_max.into())
            }
            _ => Ok(()),
        }
    }

    fn open_vhost(&mut self, now: Instant, who: &Authenticated, name: &str) -> Result<(), AmqpError> {
        let not_allowed = |explanation: String| AmqpError::new(ReplyCode::NotAllowed, explanation);
        self.broker.check_in_service()?;
        let place = self.broker.take_open_place().ok_or_else(|| {
            let limit = self.broker.live().connection_max.unwrap_or_default();
            not_allowed(format!(
                "connection refused: node connection limit ({limit}) is reached"
            ))
        })?;
        let vhost = self
            .broker
            .vhost(name)
            .ok_or_else(|| not_allowed(format!("vhost {name} not found")))?;
        let users_revision = self.broker.users.revision();
        let user = &who.user;
        let permissions = who
            .access(&self.broker.users, name)
            .ok_or_else(|| not_allowed(format!("access to vhost '{name}' refused for user '{}'", user.name)));
        self.broker
            .admit(&self.info, &vhost, permissions.is_ok())
            .map_err(|limit| not_allowed(limit.to_string()))?;
        let permissions = permissions?;
        let actor = Actor {
            user: user.name.as_str().into(),
            permissions,
            topics: self.topic_permissions(who, name),
            connection: Some(self.info.id),
        };
        self.open = Some(Opened {
            vhost,
            who: who.clone(),
            actor,
            users_revision,
            _place: place,
        });
        self.heartbeat.received(now);
        self.phase = Phase::Running;
        tracing::info!(
            connection = %self.info.name, user = %user.name, vhost = name, client = self.info.client_name(),
            "connection opened"
        );
        self.reply(0, AMQPClass::Connection(AMQPMethod::OpenOk(OpenOk {})));
        Ok(())
    }
}
