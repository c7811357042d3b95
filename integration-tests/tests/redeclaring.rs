//! Declarations that differ from what is there, under each rule of a virtual host.

use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use leveret_integration_tests::Broker;
use leveret_integration_tests::client::*;
use leveret_integration_tests::scrape::Metrics;
use prometheus_parse::Value;

/// Of each outcome: refused, accepted and adopted.
fn counted(broker: &Broker) -> usize {
    let metrics = Metrics::fetch(broker.metrics());
    let samples = metrics.named("leveret_redeclarations_differing_total");
    samples.filter(|sample| sample.value == Value::Counter(1.0)).count()
}

async fn declare(channel: &Channel, max_length: i32) -> Result<(), lapin::Error> {
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let limited = arguments([("x-max-length", AMQPValue::LongInt(max_length))]);
    channel.queue_declare("work".into(), durable, limited).await.map(drop)
}

#[tokio::test]
async fn a_queue_becomes_what_a_new_version_of_a_program_declares() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    declare(&channel, 10).await.unwrap();
    for number in 0..10 {
        channel
            .publish_confirmed("", "work", number.to_string().as_bytes())
            .await;
    }
    let refused = refusal(&declare(&channel, 5).await.unwrap_err());
    assert_eq!(refused.0, 406);
    broker.wait_for_log("x-max-length: received '5' but current is '10'");

    let rule = |rule: &str| {
        broker
            .ctl()
            .run(&["update_vhost_metadata", "/", "--redeclare-rule", rule])
    };
    rule("warn");
    let (_connection, channel) = open(broker.amqp()).await;
    declare(&channel, 5).await.unwrap();
    assert_eq!(channel.counts("work").await.0, 10);

    rule("adopt");
    declare(&channel, 5).await.unwrap();
    assert_eq!(channel.counts("work").await.0, 5);
    assert_eq!(counted(&broker), 3);
    let listed = broker.ctl().run(&["--silent", "list_vhosts", "name", "redeclare_rule"]);
    assert_eq!(listed.trim(), "/\tadopt");
    let exported = broker.ctl().run(&["export_definitions"]);
    assert!(exported.contains(r#""redeclare_rule": "adopt""#), "{exported}");

    broker.kill();
    broker.start_again();
    let (_connection, channel) = open(broker.amqp()).await;
    // The rule and the queue are what they were; what a queue is for good stays so.
    declare(&channel, 6).await.unwrap();
    let transient = channel.queue_declare("work".into(), QueueDeclareOptions::default(), FieldTable::default());
    assert_eq!(refusal(&transient.await.unwrap_err()).0, 406);
    let (_connection, channel) = open(broker.amqp()).await;
    let lost = arguments([("alternate-exchange", text("lost"))]);
    for arguments in [FieldTable::default(), lost] {
        let options = ExchangeDeclareOptions::default();
        let declared = channel.exchange_declare("orders".into(), ExchangeKind::Topic, options, arguments);
        declared.await.unwrap();
    }
    channel.exchange("lost", ExchangeKind::Fanout).await;
    channel.bind("work", "lost", "").await;
    channel.publish_confirmed("orders", "nobody", b"found").await;
    channel.wait_for_messages("work", 6).await;
}
