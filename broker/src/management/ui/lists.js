// The overview, and lists of what is in the broker, page by page.

import { ask, get, path } from "./api.js";
import { definitions } from "./definitions.js";
import { button, bytes, count, element, form, link, number, rate, rateOf, rateOfBytes, table, text, tiles } from "./elements.js";
import { PAST, graph, lengths, rates } from "./graph.js";

const ROWS = 100;

export function overview(desk) {
  return {
    async live() {
      const all = await get(`overview?${PAST}`);
      const nodes = await get("nodes").catch(() => []);
      const stats = all.message_stats ?? {};
      const totals = all.queue_totals ?? {};
      return [
        element("h2", {}, `${all.product_name} ${all.product_version} on ${all.node}, cluster ${all.cluster_name}`),
        tiles({
          "published": rate(stats.publish_details) || "0/s",
          "delivered": rate(stats.deliver_get_details) || "0/s",
          "acknowledged": rate(stats.ack_details) || "0/s",
          "ready": number(totals.messages_ready ?? 0),
          "unacknowledged": number(totals.messages_unacknowledged ?? 0),
          ...Object.fromEntries(Object.entries(all.object_totals ?? {}).map(([name, count]) => [name, number(count)])),
        }),
        element("div", { class: "graphs" },
          graph("Messages in queues", lengths({ ready: totals.messages_ready_details, unacknowledged: totals.messages_unacknowledged_details })),
          graph("Messages", rates({ published: stats.publish_details, delivered: stats.deliver_get_details, acknowledged: stats.ack_details }), "/s")),
        element("h2", {}, "Node"),
        table([
          { title: "Name", cell: (node) => node.name },
          { title: "Memory", number: true, cell: (node) => limited(node.mem_alarm, `${bytes(node.mem_used)} of ${bytes(node.mem_limit)}`) },
          { title: "Free disk", number: true, cell: (node) => limited(node.disk_free_alarm, `${bytes(node.disk_free)}, alarm below ${bytes(node.disk_free_limit)}`) },
          { title: "Open files", number: true, cell: (node) => `${number(node.fd_used)} of ${number(node.fd_total)}` },
          { title: "Up", number: true, cell: (node) => `${(node.uptime / 3_600_000).toFixed(1)} h` },
        ], nodes),
        element("h2", {}, "Listeners"),
        table([
          { title: "Protocol", cell: (listener) => listener.protocol },
          { title: "Address", cell: (listener) => listener.ip_address },
          { title: "Port", number: true, cell: (listener) => listener.port },
        ], all.listeners ?? []),
      ];
    },
    tools: definitions(desk),
  };
}

const limited = (alarm, text) => element("span", { class: alarm ? "bad" : null }, alarm ? `ALARM: ${text}` : text);

// A list of the API, with a filter, an order and pages.
function list(desk, resource, columns) {
  const state = { page: 1, name: "", sort: null, reverse: false };
  const order = {
    by(sort) {
      state.reverse = state.sort === sort && !state.reverse;
      Object.assign(state, { sort, page: 1 });
      Object.assign(order, { sort, reverse: state.reverse });
      desk.redraw();
    },
  };
  const turn = (by) => button(by < 0 ? "Back" : "On", () => { state.page += by; desk.redraw(); });
  return {
    async live() {
      const query = new URLSearchParams({ page: state.page, page_size: ROWS, name: state.name });
      if (state.sort !== null) {
        query.set("sort", state.sort);
        query.set("sort_reverse", state.reverse);
      }
      const found = await get(`${resource}?${query}`);
      const where = `${number(found.filtered_count)} of ${number(found.total_count)}, page ${found.page} of ${Math.max(found.page_count, 1)} `;
      return [
        element("p", { class: "quiet" }, where, found.page > 1 ? turn(-1) : null, found.page < found.page_count ? turn(1) : null),
        table(columns, found.items, order),
      ];
    },
    tools: [form([["name", "Name contains"]], "Filter", ({ name }) => {
      Object.assign(state, { name, page: 1 });
      desk.redraw();
    })],
  };
}

export const connections = (desk) => list(desk, "connections", [
  { title: "Name", sort: "name", cell: (row) => link(row.client_properties?.connection_name ?? row.name, "connection", row.name) },
  text("User", "user"), text("Virtual host", "vhost"), text("State", "state"), count("Channels", "channels"),
  { title: "From client", number: true, cell: (row) => rateOfBytes(row.recv_oct_details) },
  { title: "To client", number: true, cell: (row) => rateOfBytes(row.send_oct_details) },
  { title: "TLS", cell: (row) => (row.ssl ? "yes" : "no") },
]);

export const channels = (desk) => list(desk, "channels", [
  text("Name", "name"), text("User", "user"), text("Virtual host", "vhost"),
  { title: "Mode", cell: (row) => (row.transactional ? "transactions" : row.confirm ? "confirms" : "") },
  count("Prefetch", "prefetch_count"), count("Unacked", "messages_unacknowledged"), count("Unconfirmed", "messages_unconfirmed"),
  rateOf("Publish", "publish"), rateOf("Deliver", "deliver_get"), rateOf("Ack", "ack"),
]);

export const consumerColumns = [
  text("Tag", "consumer_tag"),
  { title: "Channel", cell: (row) => row.channel_details?.name },
  { title: "Acks", cell: (row) => (row.ack_required ? "yes" : "no") },
  count("Prefetch", "prefetch_count"),
  text("Active", "activity_status"),
];

export const consumers = () => ({
  async live() {
    return [table([
      { title: "Queue", cell: (row) => link(row.queue.name, "queue", row.queue.vhost, row.queue.name) },
      { title: "Virtual host", cell: (row) => row.queue.vhost },
      ...consumerColumns,
    ], await get("consumers"))];
  },
});

const features = (row) => [
  row.durable ? "durable" : "transient", row.exclusive ? "exclusive" : null, row.auto_delete ? "auto-delete" : null, row.internal ? "internal" : null,
  ...Object.keys(row.arguments ?? {}), row.policy,
].filter(Boolean).join(", ");

export function exchanges(desk) {
  const page = list(desk, "exchanges", [
    { title: "Name", sort: "name", cell: (row) => link(row.name || "(default)", "exchange", row.vhost, row.name || "amq.default") },
    text("Virtual host", "vhost"), text("Type", "type"), { title: "Features", cell: features },
    rateOf("In", "publish_in"), rateOf("Out", "publish_out"),
  ]);
  const types = ["direct", "fanout", "topic", "headers", "x-consistent-hash", "x-delayed-message"];
  page.tools.push(element("h2", {}, "New exchange"), form(
    [["vhost", "Virtual host", "text", "/"], ["name", "Name"], ["type", "Type", types], ["arguments", "Arguments (JSON)", "text", "{}"], ["durable", "durable", "checkbox", true]],
    "Declare",
    ({ vhost, name, type, durable, arguments: given }) => desk.act(
      async () => ask("PUT", `exchanges/${path(vhost, name)}`, { type, durable, arguments: JSON.parse(given) }), `exchange '${name}' is there`),
  ));
  return page;
}

export function queues(desk) {
  const page = list(desk, "queues", [
    { title: "Name", sort: "name", cell: (row) => link(row.name, "queue", row.vhost, row.name) },
    text("Virtual host", "vhost"), text("Type", "type"), { title: "Features", cell: features },
    count("Ready", "messages_ready"), count("Unacked", "messages_unacknowledged"), count("Consumers", "consumers"),
    rateOf("In", "publish"), rateOf("Out", "deliver_get"), rateOf("Ack", "ack"),
  ]);
  page.tools.push(element("h2", {}, "New queue"), form(
    [["vhost", "Virtual host", "text", "/"], ["name", "Name"], ["arguments", "Arguments (JSON)", "text", "{}"], ["durable", "durable", "checkbox", true]],
    "Declare",
    ({ vhost, name, durable, arguments: given }) => desk.act(
      async () => ask("PUT", `queues/${path(vhost, name)}`, { durable, arguments: JSON.parse(given) }), `queue '${name}' is there`),
  ));
  return page;
}
