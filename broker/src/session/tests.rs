//! What the scripts of sessions cannot say: commits that nobody has noticed yet, and tokens that are renewed.

use amq_protocol::protocol::{basic, channel, confirm, connection, queue};
use leveret_storage::{Store, StoreOptions};
use prometheus::Registry;

use std::time::Duration;

use super::*;
use crate::auth::oauth::{Scopes, Token};
use crate::auth::{HashedPassword, User};
use crate::protocol::protocol_header::AMQP_0_9_1;

/// A session of guest with channel 1 in confirm mode and a durable queue `q`, over a store that commits by hand.
fn session(pending_bytes_max: usize) -> Session {
    let options = StoreOptions {
        manual_commit: true,
        pending_bytes_max,
        ..StoreOptions::default()
    };
    let broker = crate::startup::start(Config::default(), Store::in_memory(options), &Registry::new()).unwrap();
    let address = "127.0.0.1:5672".parse().unwrap();
    let now = crate::clock::now();
    let id = broker.next_connection_id();
    let info = Arc::new(ConnectionInfo::new(id, address, address, frame::INITIAL_FRAME_MAX, now));
    let mut session = Session::new(broker.clone(), info, now);
    assert_eq!(session.receive(now, &AMQP_0_9_1), AMQP_0_9_1.len());
    let response = "\0guest\0guest".into();
    let start_ok = connection::StartOk {
        mechanism: "PLAIN".into(),
        response,
        ..Default::default()
    };
    say(
        &mut session,
        0,
        AMQPClass::Connection(connection::AMQPMethod::StartOk(start_ok)),
    );
    assert!(session.take_login().is_some());
    session.login_result(now, Ok(broker.users.get("guest").unwrap()));
    let tune_ok = connection::TuneOk {
        channel_max: 1,
        frame_max: 4096,
        heartbeat: 0,
    };
    say(
        &mut session,
        0,
        AMQPClass::Connection(connection::AMQPMethod::TuneOk(tune_ok)),
    );
    let open = connection::Open {
        virtual_host: "/".into(),
    };
    say(
        &mut session,
        0,
        AMQPClass::Connection(connection::AMQPMethod::Open(open)),
    );
    say(
        &mut session,
        1,
        AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})),
    );
    say(
        &mut session,
        1,
        AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false })),
    );
    declare(&mut session);
    broker.store.commit(false);
    session.wake(now);
    assert!(session.accepts_input());
    session
}

fn say(session: &mut Session, channel: u16, method: AMQPClass) {
    let mut input = Vec::new();
    method::encode_method(&mut input, channel, &method);
    assert_eq!(session.receive(crate::clock::now(), &input), input.len());
}

fn declare(session: &mut Session) {
    let declare = queue::Declare {
        queue: "q".into(),
        durable: true,
        ..Default::default()
    };
    say(session, 1, AMQPClass::Queue(queue::AMQPMethod::Declare(declare)));
}

fn delete(session: &mut Session) {
    let delete = queue::Delete {
        queue: "q".into(),
        ..Default::default()
    };
    say(session, 1, AMQPClass::Queue(queue::AMQPMethod::Delete(delete)));
}

/// A persistent message of one octet.
fn publish(session: &mut Session) {
    let publish = basic::Publish {
        routing_key: "q".into(),
        ..Default::default()
    };
    say(session, 1, AMQPClass::Basic(basic::AMQPMethod::Publish(publish)));
    let header = [
        2,
        0,
        1,
        0,
        0,
        0,
        15,
        0,
        60,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        1,
        0x10,
        0,
        2,
        frame::FRAME_END,
    ];
    let body = [3, 0, 1, 0, 0, 0, 1, b'x', frame::FRAME_END];
    let content = [&header[..], &body].concat();
    assert_eq!(session.receive(crate::clock::now(), &content), content.len());
}

/// The store commits after the session looked and before it asks to be woken.
fn commit_unnoticed(session: &mut Session) {
    session.broker.store.commit(false);
    assert!(session.outbox.take_committed());
    session.watching_commits = false;
    session.watch_commits();
}

/// connection.update-secret of one who has come with a token, and what was found out about the new one.
fn update_secret(session: &mut Session, name: &str, scope: &str) {
    update_secret_for(session, name, scope, Duration::from_secs(60));
}

fn update_secret_for(session: &mut Session, name: &str, scope: &str, lasts: Duration) {
    let update = connection::UpdateSecret {
        new_secret: "secret".into(),
        reason: "".into(),
    };
    let user = User {
        name: name.to_owned(),
        password: HashedPassword::none(),
        tags: Vec::new(),
    };
    let user = Arc::new(user);
    let (scopes, _) = Scopes::parse([scope].into_iter());
    let token = Token {
        user: user.clone(),
        scopes: Arc::new(scopes),
        expires_at: Some(0),
    };
    let who = Authenticated {
        user,
        token: Some(Arc::new(token)),
        lasts: Some(lasts),
    };
    session.open.as_mut().unwrap().who.token = who.token.clone();
    say(
        session,
        0,
        AMQPClass::Connection(connection::AMQPMethod::UpdateSecret(update)),
    );
    assert!(session.take_login().is_some() && !session.accepts_input());
    session.login_result(crate::clock::now(), Ok(who));
}

fn has_said(session: &Session, text: &str) -> bool {
    let mut outbox = session.outbox.lock();
    let said = outbox.bytes_mut();
    said.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_token_that_ends_beyond_all_time_does_not_end() {
    let mut session = session(1 << 20);
    update_secret_for(&mut session, "guest", "read:*/*", Duration::from_secs(u64::MAX));
    assert!(session.accepts_input() && matches!(session.phase, Phase::Running));
    assert_eq!(session.expires, None);
}

#[test]
fn a_new_token_counts_at_once_and_until_it_ends() {
    let mut session = session(1 << 20);
    publish(&mut session);
    update_secret(&mut session, "guest", "read:*/*");
    assert!(session.accepts_input() && matches!(session.phase, Phase::Running));
    publish(&mut session);
    assert!(has_said(
        &session,
        "write access to exchange 'amq.default' in vhost '/' refused for user 'guest'"
    ));
    let now = crate::clock::now();
    session.timeout(now);
    assert!(matches!(session.phase, Phase::Running));
    let end = session.deadline().unwrap();
    assert!(end > now + Duration::from_secs(50) && end <= now + Duration::from_secs(60));
    session.timeout(end);
    assert!(has_said(&session, "CONNECTION_FORCED - credential expired"));
    assert!(matches!(session.phase, Phase::Closing { .. }));
}

#[test]
fn a_new_token_of_somebody_else_is_refused() {
    let mut session = session(1 << 20);
    update_secret(&mut session, "other", "write:*/*");
    assert!(has_said(
        &session,
        "NOT_ALLOWED - New secret was refused by one of the backends"
    ));
    assert!(matches!(session.phase, Phase::Closing { .. }));
}

#[test]
fn a_confirm_whose_commit_came_before_the_listener_is_not_forgotten() {
    let mut session = session(1 << 20);
    publish(&mut session);
    assert!(session.has_unconfirmed());
    commit_unnoticed(&mut session);
    assert!(session.outbox.take_committed());
}

#[test]
fn a_reply_whose_commit_came_before_the_listener_is_not_forgotten() {
    let mut session = session(1 << 20);
    delete(&mut session);
    assert!(!session.accepts_input());
    commit_unnoticed(&mut session);
    assert!(session.outbox.take_committed());
}

#[test]
fn congestion_that_ended_before_the_listener_is_not_forgotten() {
    let mut session = session(1);
    publish(&mut session);
    assert!(!session.accepts_input());
    commit_unnoticed(&mut session);
    assert!(session.outbox.take_committed());
}

#[test]
fn a_commit_that_answers_nothing_does_not_wake_the_session_again() {
    let mut session = session(1 << 20);
    publish(&mut session);
    session.watch_commits();
    assert!(!session.outbox.take_committed());
}
