//! Many clients at once, doing what they like.

use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ExchangeKind};
use leveret_integration_tests::client::*;
use leveret_integration_tests::random::Random;
use leveret_integration_tests::raw::{RawClient, basic, confirm, make};
use leveret_integration_tests::{TestBroker, wait};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

const PRODUCERS: usize = 3;
const MESSAGES_EACH: usize = 1_000;
const WORKERS: usize = 4;

/// The bodies that were acknowledged. Each may be so only once.
#[derive(Default)]
struct Acked(Mutex<HashSet<String>>);

impl Acked {
    fn add(&self, body: String) {
        let mut acked = self.0.lock().unwrap();
        assert!(acked.insert(body.clone()), "{body} came again after its ack");
    }

    fn is_complete(&self) -> bool {
        self.0.lock().unwrap().len() == PRODUCERS * MESSAGES_EACH
    }
}

async fn produce(amqp: SocketAddr, queue: String, producer: usize) {
    let (_connection, channel) = open(amqp).await;
    for number in 0..MESSAGES_EACH {
        channel
            .publish_confirmed("", &queue, format!("{producer}/{number}").as_bytes())
            .await;
    }
}

/// Consumes for a while, settles each message in one way or the other, and leaves in one way or the other; again and again.
async fn work(amqp: SocketAddr, queue: String, acked: Arc<Acked>, seed: u64) {
    let mut random = Random::new(seed);
    while !acked.is_complete() {
        let (connection, channel) = open(amqp).await;
        let prefetch_count = 1 + random.below(50) as u16;
        channel
            .basic_qos(prefetch_count, BasicQosOptions::default())
            .await
            .unwrap();
        let mut consumer = channel.consume(&queue).await;
        for _ in 0..random.below(200) {
            let next = tokio::time::timeout(std::time::Duration::from_millis(100), next(&mut consumer));
            let Ok(delivery) = next.await else { break };
            let settled = match random.below(10) {
                0 => delivery.reject(BasicRejectOptions { requeue: true }).await,
                1 => {
                    let requeue = BasicNackOptions {
                        multiple: random.chance(20),
                        requeue: true,
                    };
                    delivery.nack(requeue).await
                }
                2 => Ok(true),
                _ => {
                    acked.add(body(&delivery));
                    delivery.ack(BasicAckOptions::default()).await
                }
            };
            settled.unwrap();
        }
        leave(connection, channel, &mut random).await;
    }
}

/// By the front door, so that what was sent before is handled before.
async fn leave(connection: Connection, channel: Channel, random: &mut Random) {
    if random.chance(50) {
        channel.close(200, "Goodbye".into()).await.unwrap();
    }
    connection.close(200, "Goodbye".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_or_acked_twice_while_workers_come_and_go() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = broker.unique("stress");
    channel.queue(&queue, QueueDeclareOptions::default()).await;
    let acked = Arc::new(Acked::default());
    let amqp = broker.amqp();
    let mut tasks = Vec::new();
    for producer in 0..PRODUCERS {
        tasks.push(tokio::spawn(produce(amqp, queue.clone(), producer)));
    }
    for worker in 0..WORKERS {
        tasks.push(tokio::spawn(work(
            amqp,
            queue.clone(),
            Arc::clone(&acked),
            0x5eed_1000 + worker as u64,
        )));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(channel.counts(&queue).await, (0, 0));
    channel
        .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
        .await
        .unwrap();
}

/// One step of somebody who does as he pleases with a few shared names. Being refused is fine.
async fn meddle(channel: &Channel, names: &[String; 4], random: &mut Random) -> lapin::Result<()> {
    let mut name = || names[random.below(names.len())].as_str();
    let (queue, exchange, other) = (name(), name(), name());
    let none = FieldTable::default;
    match random.below(9) {
        0 => drop(
            channel
                .queue_declare(queue.into(), QueueDeclareOptions::default(), none())
                .await?,
        ),
        1 => {
            let options = ExchangeDeclareOptions {
                auto_delete: true,
                ..ExchangeDeclareOptions::default()
            };
            channel
                .exchange_declare(exchange.into(), ExchangeKind::Topic, options, none())
                .await?;
        }
        2 => {
            let options = QueueBindOptions::default();
            channel
                .queue_bind(queue.into(), exchange.into(), "#".into(), options, none())
                .await?;
        }
        3 => {
            let options = ExchangeBindOptions::default();
            channel
                .exchange_bind(other.into(), exchange.into(), "#".into(), options, none())
                .await?;
        }
        4 => drop(
            channel
                .queue_delete(queue.into(), QueueDeleteOptions::default())
                .await?,
        ),
        5 => {
            channel
                .exchange_delete(exchange.into(), ExchangeDeleteOptions::default())
                .await?
        }
        6 => drop(
            channel
                .basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), none())
                .await?,
        ),
        7 => {
            channel
                .queue_unbind(queue.into(), exchange.into(), "#".into(), none())
                .await?
        }
        _ => {
            let options = BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            };
            let publish =
                channel.basic_publish(exchange.into(), "key".into(), options, b"meddling", Default::default());
            publish.await?.await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn declaring_binding_publishing_and_deleting_race_without_harm() {
    let broker = TestBroker::get();
    let amqp = broker.amqp();
    let names = ["one", "two", "three", "four"].map(|name| broker.unique(name));
    let mut tasks = Vec::new();
    for meddler in 0..6_u64 {
        let names = names.clone();
        tasks.push(tokio::spawn(async move {
            let mut random = Random::new(0x5eed_2000 + meddler);
            let (connection, mut channel) = open(amqp).await;
            channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
            for _ in 0..300 {
                let step = wait::within("an answer", meddle(&channel, &names, &mut random)).await;
                if step.is_err() {
                    assert!(connection.status().connected(), "{step:?} cost the connection");
                    channel = connection.create_channel().await.unwrap();
                    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
                }
            }
            connection.close(200, "Goodbye".into()).await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let (_connection, channel) = open(amqp).await;
    for name in &names {
        channel
            .queue_delete(name.as_str().into(), QueueDeleteOptions::default())
            .await
            .unwrap();
        channel
            .exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default())
            .await
            .unwrap();
    }
    let queue = channel.own_queue().await;
    channel.publish_confirmed("", &queue, b"all is well").await;
    assert_eq!(channel.drain(&queue).await, ["all is well"]);
}

#[tokio::test]
async fn a_consumer_that_does_not_read_holds_nobody_up_and_loses_nothing() {
    const MESSAGES: u32 = 3_000;
    let broker = TestBroker::get();
    let mut slow = RawClient::with_channel(broker.amqp());
    let queue = slow.call(1, make::queue_declare("")).queue.to_string();
    let consume = basic::Consume {
        no_ack: true,
        ..make::basic_consume(&queue)
    };
    let _ok = slow.call(1, consume);

    // 60 MB for somebody who is not listening.
    let (_connection, channel) = open(broker.amqp()).await;
    let mut message = vec![7; 20_000];
    for number in 0..MESSAGES {
        message[..4].copy_from_slice(&number.to_be_bytes());
        channel.publish("", &queue, &message).await;
    }
    let own = channel.own_queue().await;
    channel.publish_confirmed("", &own, b"nobody waits").await;
    assert_eq!(channel.drain(&own).await, ["nobody waits"]);

    for number in 0..MESSAGES {
        let content = slow.expect_content(1);
        assert_eq!(
            (&content.body[..4], content.body.len()),
            (&number.to_be_bytes()[..], 20_000)
        );
    }
    slow.close();
}

#[test]
fn a_publisher_may_read_its_confirms_late() {
    const MESSAGES: u64 = 50_000;
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let queue = client.call(1, make::queue_declare("")).queue.to_string();
    let _ok = client.call(1, confirm::Select { nowait: false });
    for _ in 0..MESSAGES {
        client.publish_to(1, "", &queue, b"confirm me later");
    }
    let mut outstanding: std::collections::BTreeSet<u64> = (1..=MESSAGES).collect();
    while !outstanding.is_empty() {
        let ack: basic::Ack = client.expect(1);
        match ack.multiple {
            true => outstanding.extract_if(..=ack.delivery_tag, |_| true).for_each(drop),
            false => assert!(outstanding.remove(&ack.delivery_tag), "{ack:?} is not outstanding"),
        }
    }
    let counts = client.call(1, make::queue_declare_passive(&queue));
    assert_eq!(u64::from(counts.message_count), MESSAGES);
    client.close();
}
