"""What a pika program does all day, against the broker of AMQP_URL."""

import os
import time
import uuid

import pika
from pika.exceptions import ChannelClosedByBroker, UnroutableError

URL = os.environ["AMQP_URL"]
PERSISTENT = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)


def connect(heartbeat=60):
    parameters = pika.URLParameters(URL)
    parameters.heartbeat = heartbeat
    parameters.blocked_connection_timeout = 30
    return pika.BlockingConnection(parameters)


def unique(name):
    return f"pika.{name}.{uuid.uuid4()}"


def confirmed_publishes_are_consumed_in_order(connection):
    channel = connection.channel()
    exchange, queue = unique("exchange"), unique("queue")
    channel.exchange_declare(exchange, "topic", durable=True)
    channel.queue_declare(queue, durable=True)
    channel.queue_bind(queue, exchange, "order.*")
    channel.confirm_delivery()
    for number in range(100):
        channel.basic_publish(exchange, "order.new", str(number), PERSISTENT, mandatory=True)
    assert channel.queue_declare(queue, passive=True).method.message_count == 100

    consumer = connection.channel()
    consumer.basic_qos(prefetch_count=10)
    bodies = []
    for method, _, body in consumer.consume(queue, inactivity_timeout=30):
        assert method is not None, f"only {len(bodies)} messages came"
        bodies.append(int(body))
        consumer.basic_ack(method.delivery_tag)
        if len(bodies) == 100:
            break
    assert consumer.cancel() == 0, "messages beyond the hundred"
    assert bodies == list(range(100)), bodies
    channel.queue_delete(queue)
    channel.exchange_delete(exchange)


def nacked_messages_come_back_flagged(connection):
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    for body in ("first", "second"):
        channel.basic_publish("", queue, body)
    method, _, body = channel.basic_get(queue)
    assert (body, method.redelivered) == (b"first", False)
    channel.basic_nack(method.delivery_tag, requeue=True)
    method, _, body = channel.basic_get(queue)
    assert (body, method.redelivered) == (b"first", True), "back in its place, and flagged"
    channel.basic_reject(method.delivery_tag, requeue=False)
    method, _, body = channel.basic_get(queue, auto_ack=True)
    assert (body, method.redelivered) == (b"second", False)
    assert channel.basic_get(queue)[0] is None


def unroutable_mandatory_messages_are_returned(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish("amq.direct", unique("nobody"), "lost", mandatory=True)
    except UnroutableError as error:
        returned = error.messages[0]
        assert (returned.method.reply_code, returned.method.reply_text) == (312, "NO_ROUTE")
        assert returned.body == b"lost"
    else:
        raise AssertionError("the message was not returned")


def requests_are_answered_by_direct_reply_to(connection):
    server_connection = connect()
    server = server_connection.channel()
    queue = server.queue_declare("", auto_delete=True).method.queue
    client = connection.channel()
    answers = []
    client.basic_consume(
        "amq.rabbitmq.reply-to", lambda *delivery: answers.append(delivery), auto_ack=True
    )
    for number in range(3):
        properties = pika.BasicProperties(
            reply_to="amq.rabbitmq.reply-to", correlation_id=str(number)
        )
        client.basic_publish("", queue, str(number), properties)
    for method, properties, body in server.consume(queue, inactivity_timeout=30):
        assert method is not None, "a request is missing"
        answer = pika.BasicProperties(correlation_id=properties.correlation_id)
        server.basic_publish("", properties.reply_to, str(int(body) ** 2), answer)
        server.basic_ack(method.delivery_tag)
        if int(body) == 2:
            break
    deadline = time.monotonic() + 30
    while len(answers) < 3:
        assert time.monotonic() < deadline, answers
        connection.process_data_events(time_limit=1)
    received = {properties.correlation_id: body for _, _, properties, body in answers}
    assert received == {"0": b"0", "1": b"1", "2": b"4"}, received
    server_connection.close()


def exclusive_queues_are_locked_for_others(connection):
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    other = connect()
    try:
        other.channel().queue_declare(queue, passive=True)
    except ChannelClosedByBroker as error:
        assert error.reply_code == 405, error
    else:
        raise AssertionError("another connection may look at an exclusive queue")
    other.close()


def a_missing_queue_costs_the_channel_only(connection):
    channel = connection.channel()
    try:
        channel.queue_declare(unique("missing"), passive=True)
    except ChannelClosedByBroker as error:
        assert error.reply_code == 404, error
    else:
        raise AssertionError("a missing queue was found")
    assert channel.is_closed and connection.is_open
    connection.channel().queue_declare("", exclusive=True)


def deleting_a_queue_cancels_its_consumer(connection):
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    cancelled = []
    channel.add_on_cancel_callback(cancelled.append)
    channel.basic_consume(queue, lambda *delivery: None)
    connection.channel().queue_delete(queue)
    deadline = time.monotonic() + 30
    while not cancelled:
        assert time.monotonic() < deadline, "no basic.cancel came"
        connection.process_data_events(time_limit=1)


def large_messages_arrive_whole(connection):
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    sent = os.urandom(2_000_000)
    channel.confirm_delivery()
    channel.basic_publish("", queue, sent)
    assert channel.basic_get(queue, auto_ack=True)[2] == sent


def an_idle_connection_is_kept_by_heartbeats():
    connection = connect(heartbeat=1)
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    # Four intervals; while it waits, pika answers heartbeats and expects them.
    end = time.monotonic() + 4
    while time.monotonic() < end:
        connection.process_data_events(time_limit=0.2)
    channel.basic_publish("", queue, "alive")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"alive"
    connection.close()


def main():
    connection = connect()
    checks = [
        confirmed_publishes_are_consumed_in_order,
        nacked_messages_come_back_flagged,
        unroutable_mandatory_messages_are_returned,
        requests_are_answered_by_direct_reply_to,
        exclusive_queues_are_locked_for_others,
        a_missing_queue_costs_the_channel_only,
        deleting_a_queue_cancels_its_consumer,
        large_messages_arrive_whole,
    ]
    for check in checks:
        check(connection)
        print(f"   {check.__name__.replace('_', ' ')}", flush=True)
    connection.close()
    an_idle_connection_is_kept_by_heartbeats()
    print("   an idle connection is kept by heartbeats")
    print(f"ok pika {pika.__version__}")


if __name__ == "__main__":
    main()
