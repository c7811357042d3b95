// Which page is shown, who is logged in, and what is drawn again every few seconds.

import { get, login } from "./api.js";
import { button, element, form, link } from "./elements.js";
import * as lists from "./lists.js";
import * as objects from "./objects.js";
import * as admin from "./admin.js";

const REFRESH_MILLIS = 5000;

// A page is given the parts of its address and returns `live()`, whose nodes are drawn again and again, and `tools`, which stay.
const PAGES = {
  overview: ["Overview", lists.overview],
  connections: ["Connections", lists.connections],
  channels: ["Channels", lists.channels],
  exchanges: ["Exchanges", lists.exchanges],
  queues: ["Queues", lists.queues],
  consumers: ["Consumers", lists.consumers],
  policies: ["Policies", admin.policies],
  users: ["Users", admin.users],
  vhosts: ["Virtual hosts", admin.vhosts],
  queue: [null, objects.queue],
  exchange: [null, objects.exchange],
  connection: [null, objects.connection],
  user: [null, admin.user],
};

const at = (id) => document.getElementById(id);
let shown = 0;

function notice(text, bad) {
  const line = at("notice");
  line.textContent = text;
  line.className = bad ? "bad" : "";
  line.hidden = text === "";
}

// What pages may do beside showing something.
const desk = {
  // Does something that the user asked for, says how it went and draws the page again.
  async act(what, done) {
    try {
      await what();
      notice(done, false);
      await draw();
    } catch (error) {
      failed(error);
    }
  },
  go: (...parts) => { location.hash = parts.map(encodeURIComponent).join("/"); },
  redraw: () => draw().catch(failed),
};

let page = null;
let underWay = 0;

async function draw() {
  const drawing = ++shown;
  underWay += 1;
  try {
    const nodes = await page.live();
    // Somebody may have gone elsewhere, or asked for another order, while this was on its way.
    if (drawing === shown) at("live")?.replaceChildren(...nodes.flat().filter((node) => node != null));
  } catch (error) {
    if (drawing === shown) throw error;
  } finally {
    underWay -= 1;
  }
}

function failed(error) {
  if (error.kind === "not_authorized") {
    login.forget();
    askForLogin(error.message);
  } else {
    notice(error.message, true);
  }
}

function askForLogin(reason) {
  page = null;
  shown += 1;
  at("nav").replaceChildren();
  at("who").replaceChildren();
  notice(reason ?? "", true);
  const enter = form([["name", "User"], ["password", "Password", "password"]], "Log in", ({ name, password }) => {
    login.set(name, password);
    start();
  });
  at("page").replaceChildren(enter);
}

async function open() {
  const [name, ...parts] = location.hash.slice(1).split("/").map(decodeURIComponent);
  const known = Object.hasOwn(PAGES, name) ? name : "overview";
  notice("", false);
  for (const anchor of at("nav").children) anchor.className = anchor.hash === `#${known}` ? "here" : "";
  page = PAGES[known][1](desk, ...parts);
  at("page").replaceChildren(element("div", { id: "live" }), ...(page.tools ?? []));
  await draw().catch(failed);
}

async function start() {
  try {
    const who = await get("whoami");
    const named = Object.entries(PAGES).filter(([, [title]]) => title !== null);
    at("nav").replaceChildren(...named.map(([name, [title]]) => link(title, name)));
    const leave = button("Log out", () => { login.forget(); askForLogin(); });
    at("who").replaceChildren(`${who.name} `, leave);
    await open();
  } catch (error) {
    login.forget();
    askForLogin(error.message);
  }
}

addEventListener("hashchange", () => { if (page !== null) open(); });
setInterval(() => { if (page !== null && underWay === 0 && !document.hidden) draw().catch(failed); }, REFRESH_MILLIS);
if (login.get() === null) askForLogin();
else start();
