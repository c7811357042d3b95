"""What a program does with AMQPStorm's management client, against the broker of MANAGEMENT_URL and AMQP_URL."""

import os
from urllib.parse import urlparse

import amqpstorm
from amqpstorm.management import ApiError, ManagementApi

api = ManagementApi(os.environ["MANAGEMENT_URL"], "guest", "guest", timeout=30)


def who_asks_is_told():
    assert api.whoami()["name"] == "guest"
    assert api.aliveness_test("/")["status"] == "ok"
    assert api.overview()["rabbitmq_version"]
    assert api.nodes()[0]["running"]


def objects_come_and_go():
    api.virtual_host.create("storm")
    api.user.create("storm", "secret", tags="monitoring")
    api.user.set_permission("storm", "storm", ".*", ".*", ".*")
    assert api.user.get_permission("storm", "storm")["write"] == ".*"
    api.queue.declare("orders", virtual_host="storm", durable=True, arguments={"x-max-length": 5})
    api.exchange.declare("shop", "topic", virtual_host="storm", durable=True)
    api.queue.bind("orders", "shop", "order.#", virtual_host="storm", arguments={})
    keys = [binding["routing_key"] for binding in api.queue.bindings("orders", virtual_host="storm")]
    assert keys == ["orders", "order.#"], keys
    api.queue.unbind("orders", "shop", "order.#", virtual_host="storm", properties_key="order.%23")
    assert api.queue.get("orders", virtual_host="storm")["arguments"] == {"x-max-length": 5}
    assert any(queue["name"] == "orders" for queue in api.queue.list(virtual_host="storm", show_all=True))


def messages_go_in_and_out():
    published = api.basic.publish("hello", "orders", virtual_host="storm", properties={"message_id": "1", "headers": {"n": 1}})
    assert published == {"routed": True}, published
    message = api.basic.get("orders", virtual_host="storm", requeue=True, count=1)[0]
    assert (message.body, message.properties["message_id"]) == ("hello", "1"), message
    api.queue.purge("orders", virtual_host="storm")
    assert api.basic.get("orders", virtual_host="storm") == []


def connections_are_seen_and_closed():
    address = urlparse(os.environ["AMQP_URL"])
    connection = amqpstorm.Connection(address.hostname, "guest", "guest", port=address.port, heartbeat=60)
    channel = connection.channel()
    channel.basic.qos(7)
    listed = api.connection.list()
    assert len(listed) == 1 and listed[0]["user"] == "guest", listed
    name = listed[0]["name"]
    assert api.connection.get(name)["vhost"] == "/"
    assert api.channel.list()[0]["connection_details"]["name"] == name
    api.connection.close(name, reason="enough")
    try:
        while True:
            channel.basic.get("nothing", no_ack=True)
    except amqpstorm.AMQPConnectionError as error:
        assert "enough" in str(error), error


def refusals_are_told():
    try:
        api.queue.get("nothing", virtual_host="/")
    except ApiError as error:
        assert error.error_code == 404, error
    else:
        raise AssertionError("a queue that is not there was found")
    api.user.delete("storm")
    api.virtual_host.delete("storm")
    assert [vhost["name"] for vhost in api.virtual_host.list()] == ["/"]


for check in [who_asks_is_told, objects_come_and_go, messages_go_in_and_out, connections_are_seen_and_closed, refusals_are_told]:
    check()
    print("ok", check.__name__.replace("_", " "))
print("ok AMQPStorm", amqpstorm.__version__)
