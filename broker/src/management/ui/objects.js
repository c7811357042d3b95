// One queue, exchange or connection, and what can be done with it.

import { ask, get, path } from "./api.js";
import { button, bytes, count, element, form, link, number, rate, rateOf, rateOfBytes, table, text, tiles } from "./elements.js";
import { PAST, graph, lengths, rates } from "./graph.js";
import { consumerColumns } from "./lists.js";

const GET_MOST = 10;
const TRUNCATED_OCTETS = 50_000;

const facts = (pairs) => table([{ title: "", cell: ([name]) => name }, { title: "", cell: ([, value]) => value }],
  Object.entries(pairs).filter(([, value]) => value != null && value !== ""));

const json = (value) => element("pre", {}, JSON.stringify(value, null, 1));

const sure = (question, what) => { if (confirm(question)) what(); };

function bindings(rows, ends) {
  return table([
    { title: ends === "source" ? "From" : "To", cell: (row) => end(row, ends) },
    text("Routing key", "routing_key"),
    { title: "Arguments", cell: (row) => (Object.keys(row.arguments).length > 0 ? json(row.arguments) : "") },
  ], rows);
}

function end(row, ends) {
  if (ends === "source") return link(row.source || "(default)", "exchange", row.vhost, row.source || "amq.default");
  return link(row.destination, row.destination_type, row.vhost, row.destination);
}

const publishing = (desk, vhost, exchange, routing_key) => form(
  [["routing_key", "Routing key", "text", routing_key], ["properties", "Properties (JSON)", "text", "{\"delivery_mode\": 2}"], ["payload", "Payload", "area"]],
  "Publish",
  ({ routing_key: key, properties, payload }) => desk.act(async () => {
    const body = { routing_key: key, properties: JSON.parse(properties), payload, payload_encoding: "string" };
    const { routed } = await ask("POST", `exchanges/${path(vhost, exchange)}/publish`, body);
    if (!routed) throw new Error("published, but no queue took it");
  }, "published"),
);

export function queue(desk, vhost, name) {
  const at = `queues/${path(vhost, name)}`;
  const messages = element("div");
  return {
    async live() {
      const [queue, bound] = await Promise.all([get(`${at}?${PAST}`), get(`${at}/bindings`)]);
      const stats = queue.message_stats ?? {};
      return [
        element("h2", {}, `Queue ${name} in ${vhost}`),
        tiles({
          "ready": number(queue.messages_ready), "unacknowledged": number(queue.messages_unacknowledged), "consumers": number(queue.consumers),
          "in": rate(stats.publish_details) || "0/s", "out": rate(stats.deliver_get_details) || "0/s", "acknowledged": rate(stats.ack_details) || "0/s",
        }),
        element("div", { class: "graphs" },
          graph("Messages in the queue", lengths({ ready: queue.messages_ready_details, unacknowledged: queue.messages_unacknowledged_details })),
          graph("Messages", rates({ in: stats.publish_details, out: stats.deliver_get_details, acknowledged: stats.ack_details }), "/s")),
        facts({
          "Type": queue.type, "Durable": String(queue.durable), "State": queue.state, "Policy": queue.policy, "Bodies": bytes(queue.message_bytes),
          "Outlive a restart": number(queue.messages_persistent), "On disk only": number(queue.messages_paged_out),
          "In memory": bytes(queue.memory), "Arguments": json(queue.arguments),
        }),
        element("h2", {}, "Consumers"),
        table(consumerColumns, queue.consumer_details ?? []),
        element("h2", {}, "Bindings"),
        bindings(bound, "source"),
      ];
    },
    tools: [
      form([["source", "Bind to exchange"], ["routing_key", "Routing key"], ["arguments", "Arguments (JSON)", "text", "{}"]], "Bind",
        ({ source, routing_key, arguments: given }) => desk.act(
          async () => ask("POST", `bindings/${path(vhost)}/e/${path(source)}/q/${path(name)}`, { routing_key, arguments: JSON.parse(given) }), "bound")),
      element("h2", {}, "Messages"),
      publishing(desk, vhost, "amq.default", name),
      form([["count", "How many", "number", "1"], ["ackmode", "Then", ["ack_requeue_true", "ack_requeue_false", "reject_requeue_true", "reject_requeue_false"]]], "Get",
        ({ count, ackmode }) => desk.act(async () => {
          const asked = { count: Math.min(Number(count), GET_MOST), ackmode, encoding: "auto", truncate: TRUNCATED_OCTETS };
          const got = await ask("POST", `${at}/get`, asked);
          messages.replaceChildren(...got.map((message) => element("section", {},
            element("p", { class: "quiet" }, `${message.exchange || "(default)"} → ${message.routing_key}, ${bytes(message.payload_bytes)}`
              + `${message.redelivered ? ", redelivered" : ""}, ${message.payload_encoding}`),
            json(message.properties), element("pre", {}, message.payload))));
        }, "looked")),
      messages,
      element("p", {},
        button("Purge", () => sure(`Drop all ready messages of '${name}'?`, () => desk.act(() => ask("DELETE", `${at}/contents`), "purged"))), " ",
        button("Delete", () => sure(`Delete queue '${name}' and its messages?`, async () => {
          await desk.act(async () => { await ask("DELETE", at); desk.go("queues"); }, "deleted");
        }))),
    ],
  };
}

export function exchange(desk, vhost, name) {
  const at = `exchanges/${path(vhost, name)}`;
  return {
    async live() {
      const [exchange, leaving] = await Promise.all([get(`${at}?${PAST}`), get(`${at}/bindings/source`)]);
      const stats = exchange.message_stats ?? {};
      return [
        element("h2", {}, `Exchange ${exchange.name || "(default)"} in ${vhost}`),
        tiles({ "in": rate(stats.publish_in_details) || "0/s", "out": rate(stats.publish_out_details) || "0/s" }),
        graph("Messages", rates({ in: stats.publish_in_details, out: stats.publish_out_details }), "/s"),
        facts({ "Type": exchange.type, "Durable": String(exchange.durable), "Internal": String(exchange.internal), "Policy": exchange.policy, "Arguments": json(exchange.arguments) }),
        element("h2", {}, "Bindings"),
        bindings(leaving, "destination"),
      ];
    },
    tools: [
      element("h2", {}, "Publish"),
      publishing(desk, vhost, name, ""),
      button("Delete", () => sure(`Delete exchange '${name}'?`, () => desk.act(async () => { await ask("DELETE", at); desk.go("exchanges"); }, "deleted"))),
    ],
  };
}

export function connection(desk, name) {
  const at = `connections/${path(name)}`;
  return {
    async live() {
      const [connection, channels] = await Promise.all([get(`${at}?${PAST}`), get(`${at}/channels`)]);
      return [
        element("h2", {}, `Connection ${name}`),
        facts({
          "User": connection.user, "Virtual host": connection.vhost, "State": connection.state, "Heartbeat": `${connection.timeout} s`,
          "From client": `${bytes(connection.recv_oct)}, ${rateOfBytes(connection.recv_oct_details)}`,
          "To client": `${bytes(connection.send_oct)}, ${rateOfBytes(connection.send_oct_details)}`,
          "Client": json(connection.client_properties),
        }),
        graph("Octets", rates({ "from client": connection.recv_oct_details, "to client": connection.send_oct_details }), " B/s"),
        element("h2", {}, "Channels"),
        table([
          count("Number", "number"), count("Consumers", "consumer_count"), count("Prefetch", "prefetch_count"),
          count("Unacked", "messages_unacknowledged"), rateOf("Publish", "publish"), rateOf("Deliver", "deliver_get"),
        ], channels),
      ];
    },
    tools: [button("Close", () => sure("Close this connection?", () => desk.act(async () => { await ask("DELETE", at); desk.go("connections"); }, "closed")))],
  };
}
