//! Access tokens at the real binary: instead of passwords, renewed in time and not, and keys that change.

use lapin::options::*;
use leveret_integration_tests::client::*;
use leveret_integration_tests::scrape::ask;
use leveret_integration_tests::tokens::Issuer;
use leveret_integration_tests::{Broker, wait};

/// Everything in `/` that begins with `own`.
const SCOPE: &str = "rabbitmq.configure:%2F/own* rabbitmq.write:%2F/* rabbitmq.read:%2F/own* rabbitmq.tag:management";

fn start(issuer: &Issuer) -> Option<Broker> {
    let key_set = issuer.key_set();
    Broker::start_configured(&[
        ("OAUTH_RESOURCE_SERVER_ID", "rabbitmq"),
        ("OAUTH_JWKS_FILE", key_set.to_str().unwrap()),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_a_password_and_says_what_its_bearer_may_do() {
    let Some(issuer) = Issuer::new() else { return };
    let Some(broker) = start(&issuer) else { return };
    let token = issuer.token("app", SCOPE, 600);
    let connection = try_connect(broker.amqp(), "anybody", &token, "/").await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.queue("own queue", QueueDeclareOptions::default()).await;
    channel.publish_confirmed("", "own queue", b"hello").await;
    assert_eq!(channel.drain("own queue").await, ["hello"]);
    let refused = channel
        .queue_declare("other".into(), QueueDeclareOptions::default(), Default::default())
        .await;
    let text = "ACCESS_REFUSED - configure access to queue 'other' in vhost '/' refused for user 'app'";
    assert_eq!(refusal(&refused.unwrap_err()), (403, text.to_owned()));

    let bearer = format!("Authorization: Bearer {token}\r\n");
    let (head, body) = ask(broker.management(), "GET", "/api/queues/%2F/own%20queue", &bearer, "");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}\n{body}");
    let (head, body) = ask(broker.management(), "GET", "/api/connections?columns=user", &bearer, "");
    assert_eq!(
        (head.get(..12), body.as_str()),
        (Some("HTTP/1.1 200"), r#"[{"user":"app"}]"#)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_026_and_027_a_connection_ends_with_its_token_unless_it_brought_a_new_one() {
    let Some(issuer) = Issuer::new() else { return };
    let Some(broker) = start(&issuer) else { return };
    let short = issuer.token("app", SCOPE, 8);
    let left_alone = try_connect(broker.amqp(), "app", &short, "/").await.unwrap();
    let renewed = try_connect(broker.amqp(), "app", &short, "/").await.unwrap();
    let token = issuer.token("app", "rabbitmq.configure:%2F/new*", 600);
    renewed
        .update_secret(token.as_str().into(), "in time".into())
        .await
        .unwrap();
    let foreign = try_connect(broker.amqp(), "app", &token, "/").await.unwrap();
    let token = issuer.token("somebody else", SCOPE, 600);
    let refused = foreign.update_secret(token.as_str().into(), "not mine".into()).await;
    let text = "NOT_ALLOWED - New secret was refused by one of the backends";
    assert_eq!(refusal(&refused.unwrap_err()), (530, text.to_owned()));

    let error = wait_for_end(&left_alone).await.expect("the broker says why");
    let text = "CONNECTION_FORCED - credential expired";
    assert_eq!(refusal(&error), (320, text.to_owned()));
    // The new token keeps its connection, and its scopes are the ones that count.
    let channel = renewed.create_channel().await.unwrap();
    channel.queue("new queue", QueueDeclareOptions::default()).await;
    let refused = channel
        .queue_declare("own queue".into(), QueueDeclareOptions::default(), Default::default())
        .await;
    let text = "ACCESS_REFUSED - configure access to queue 'own queue' in vhost '/' refused for user 'app'";
    assert_eq!(refusal(&refused.unwrap_err()), (403, text.to_owned()));
    let late = try_connect(broker.amqp(), "app", &short, "/").await.unwrap_err();
    let (code, text) = refusal(&late);
    assert!(code == 403 && text.starts_with("ACCESS_REFUSED"), "{code} {text}");
    broker.wait_for_log("it has expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_change_at_a_hang_up_and_a_broken_file_changes_nothing() {
    let (Some(issuer), Some(other)) = (Issuer::new(), Issuer::new()) else {
        return;
    };
    let Some(broker) = start(&issuer) else { return };
    let bearer = |issuer: &Issuer| format!("Authorization: Bearer {}\r\n", issuer.token("app", SCOPE, 600));
    let is_taken = |bearer: &str| {
        let (head, _) = ask(broker.management(), "GET", "/api/whoami", bearer, "");
        head.starts_with("HTTP/1.1 200")
    };
    assert!(is_taken(&bearer(&issuer)));
    std::fs::write(issuer.key_set(), "{").unwrap();
    broker.hang_up();
    broker.wait_for_log("the keys of access tokens stay as they are");
    assert!(is_taken(&bearer(&issuer)));
    std::fs::copy(other.key_set(), issuer.key_set()).unwrap();
    broker.hang_up();
    wait::until("the keys are the other's", || is_taken(&bearer(&other)).then_some(()));
    assert!(!is_taken(&bearer(&issuer)));
}
