// The management API as the pages use it: who is logged in, and requests in that name.

const KEPT = "leveret-login";

export class Refused extends Error {
  constructor(kind, reason) {
    super(reason);
    // What the API calls the error; "not_authorized" is a wrong login, "not_authorised" one that may not do this.
    this.kind = kind;
  }
}

export const login = {
  get() {
    return sessionStorage.getItem(KEPT);
  },
  // As basic authentication wants it: octets of UTF-8, in base64.
  set(name, password) {
    const octets = new TextEncoder().encode(`${name}:${password}`);
    sessionStorage.setItem(KEPT, btoa(String.fromCharCode(...octets)));
  },
  forget() {
    sessionStorage.removeItem(KEPT);
  },
};

export const path = (...parts) => parts.map((part) => encodeURIComponent(part)).join("/");

// Sends a request, with a text as it is and anything else as JSON; the text that comes back. Cookies and the browser's own logins
// stay out of it.
async function send(method, resource, body) {
  const answer = await fetch(`api/${resource}`, {
    method,
    headers: { authorization: `Basic ${login.get() ?? ""}`, "content-type": "application/json" },
    body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
    credentials: "omit",
    cache: "no-store",
  });
  const text = await answer.text();
  if (answer.ok) return text;
  const said = read(text, answer.status);
  throw new Refused(said?.error, said?.reason ?? answer.statusText);
}

function read(text, status) {
  try {
    return text === "" ? null : JSON.parse(text);
  } catch {
    throw new Refused("failed", `the answer is not JSON (${status})`);
  }
}

// Sends a request; what comes back as JSON, or null.
export const ask = async (method, resource, body) => read(await send(method, resource, body), 200);

export const getText = (resource) => send("GET", resource);

export const get = (resource) => ask("GET", resource);
