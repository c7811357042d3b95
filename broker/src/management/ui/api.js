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

// Sends a request; what comes back as JSON, or null. Cookies and the browser's own logins stay out of it.
export async function ask(method, resource, body) {
  const answer = await fetch(`api/${resource}`, {
    method,
    headers: { authorization: `Basic ${login.get() ?? ""}`, "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: "omit",
    cache: "no-store",
  });
  const text = await answer.text();
  let said = null;
  try {
    said = text === "" ? null : JSON.parse(text);
  } catch {
    throw new Refused("failed", `the answer is not JSON (${answer.status})`);
  }
  if (!answer.ok) throw new Refused(said?.error, said?.reason ?? answer.statusText);
  return said;
}

export const get = (resource) => ask("GET", resource);
