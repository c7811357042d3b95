// Uses the pages for browsers as a person would, in a browser without a screen, against the broker whose API is at MANAGEMENT_URL.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.env.NODE_PATH}/`);
const { JSDOM } = require("jsdom");

const DEADLINE_MILLIS = 10_000;
// Until there are two samples of the past, and they were drawn.
const GRAPH_MILLIS = 40_000;
const QUEUE = "pages <b>\"1\"/é";
const UPLOADED = "pages-uploaded";
const given = new URL(process.env.MANAGEMENT_URL);
const base = given.origin;
const [user, password] = [given.username || "guest", given.password || "guest"].map(decodeURIComponent);
const authorization = `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;

const { window } = new JSDOM(await (await fetch(`${base}/`)).text(), { url: `${base}/`, pretendToBeVisual: true });
const { document } = window;
const network = globalThis.fetch;
const browser = {
  document, location: window.location, sessionStorage: window.sessionStorage,
  addEventListener: window.addEventListener.bind(window),
  confirm: () => true,
  fetch: (resource, options) => network(new URL(resource, `${base}/`), options),
};
for (const [name, value] of Object.entries(browser)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });

// The scripts as the broker serves them.
const folder = await mkdtemp(join(tmpdir(), "leveret-pages-"));
await writeFile(join(folder, "package.json"), "{\"type\": \"module\"}");
const fetched = new Set();
async function script(name) {
  if (fetched.has(name)) return;
  fetched.add(name);
  const text = await (await network(`${base}/${name}`)).text();
  await writeFile(join(folder, name), text);
  for (const [, other] of text.matchAll(/from "\.\/([^"]+)"/g)) await script(other);
}

const shown = () => `${document.getElementById("notice").textContent} | ${document.getElementById("page").textContent}`;

async function until(what, holds, millis = DEADLINE_MILLIS) {
  const deadline = Date.now() + millis;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`${what}; shown is: ${shown().slice(0, 600)}`);
    await new Promise((wake) => setTimeout(wake, 20));
  }
}
const shows = (text) => until(`no "${text}"`, () => shown().includes(text));
const buttons = (root) => [...root.querySelectorAll("button")];

async function submit(verb, values) {
  const named = () => [...document.querySelectorAll("form")].find((form) => buttons(form).some((button) => button.textContent === verb));
  await until(`no form to ${verb}`, named);
  const form = named();
  for (const [name, value] of Object.entries(values)) form.elements[name].value = value;
  form.dispatchEvent(new window.Event("submit", { bubbles: true, cancelable: true }));
}

async function press(text) {
  const named = () => buttons(document.body).find((button) => button.textContent.startsWith(text));
  await until(`no button ${text}`, named);
  named().click();
}

const go = (...parts) => { window.location.hash = parts.map(encodeURIComponent).join("/"); };

async function story() {
  await script("app.js");
  await import(pathToFileURL(join(folder, "app.js")));

  await submit("Log in", { name: user, password: "wrong" });
  await shows("Login failed");
  await submit("Log in", { name: user, password });
  await shows("Listeners");

  go("queues");
  await submit("Declare", { name: QUEUE, arguments: "{\"x-max-length\": 5}" });
  await until("the queue is not listed", () => [...document.querySelectorAll("td a")].some((anchor) => anchor.textContent === QUEUE));
  if (document.querySelector("td b")) throw new Error("a name became markup");
  await submit("Declare", { name: "x", arguments: "{" });
  await until("a mistake is not told", () => document.getElementById("notice").className === "bad");

  go("queue", "/", QUEUE);
  await shows(`Queue ${QUEUE} in /`);
  await submit("Publish", { routing_key: QUEUE, payload: "hello <script>" });
  await shows("published");
  await submit("Get", { count: "1", ackmode: "ack_requeue_true" });
  await shows("hello <script>");
  await submit("Publish", { routing_key: "nowhere", payload: "x" });
  await shows("no queue took it");
  await submit("Bind", { source: "amq.topic", routing_key: "k.#" });
  await shows("k.#");
  await press("Purge");
  await shows("purged");

  go("exchange", "/", "amq.topic");
  await shows("Exchange amq.topic in /");
  await shows(QUEUE);
  for (const [list, column] of [["exchanges", "amq.headers"], ["connections", "From client"], ["channels", "Unconfirmed"], ["consumers", "Prefetch"]]) {
    go(list);
    await shows(column);
  }

  go("users");
  await submit("Set", { name: "pages-anna", password: "s", tags: "monitoring" });
  await shows("pages-anna");
  go("user", "pages-anna");
  await shows("User pages-anna, tags: monitoring");
  await submit("Set", { vhost: "/" });
  await shows("/.*.*.*");
  go("vhosts");
  await submit("Add", { name: "pages-shop", description: "of pages" });
  await shows("pages-shop");
  go("policies");
  await submit("Set", { name: "pages-p", pattern: "^pages-none$", definition: "{\"max-length\": 3}" });
  await shows("max-length");

  go("overview");
  await until("no graph of lengths", () => document.querySelector("figure polyline")?.getAttribute("points").includes(" "), GRAPH_MILLIS);
  const chosen = (text) => {
    const input = document.querySelector("input[type=file]");
    Object.defineProperty(input, "files", { value: [{ text: async () => text }], configurable: true });
  };
  await submit("Compare", {});
  await shows("choose a file first");
  const file = { queues: [{ name: UPLOADED, vhost: "/", durable: true, auto_delete: false, arguments: { "x-max-length": 7 } }] };
  chosen(JSON.stringify(file));
  await submit("Compare", {});
  await shows(`+ queue '${UPLOADED}'`);
  if ((await network(`${base}/api/queues/%2F/${UPLOADED}`, { headers: { authorization } })).status !== 404) throw new Error("a comparison made a queue");
  await press("Apply");
  await shows("applied");
  chosen(JSON.stringify(file));
  await submit("Compare", {});
  await shows("nothing would change");
  chosen("{");
  await submit("Compare", {});
  await until("a mistake in a file is not told", () => document.getElementById("notice").className === "bad");

  go("queues");
  await shows("New queue");
  await press("Name");
  await shows("▲");
  await press("Name");
  await shows("▼");
  await submit("Filter", { name: "no queue has this" });
  await shows("0 of ");

  go("queue", "/", QUEUE);
  await shows(`Queue ${QUEUE} in /`);
  await press("Delete");
  await shows("New queue");
  go("queue", "/", QUEUE);
  await shows("Not Found");
  await press("Log out");
  await shows("Password");
}

async function clean(resource) {
  await network(`${base}/api/${resource}`, { method: "DELETE", headers: { authorization } });
}

try {
  await story();
  console.log("the pages do what they say");
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  for (const resource of ["users/pages-anna", "vhosts/pages-shop", "policies/%2F/pages-p", `queues/%2F/${UPLOADED}`, `queues/%2F/${encodeURIComponent(QUEUE)}`]) await clean(resource);
  await rm(folder, { recursive: true });
}
// The pages would draw themselves for ever.
process.exit();
