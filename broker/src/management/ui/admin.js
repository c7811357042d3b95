// Users and what they may do, virtual hosts, policies.

import { ask, get, path } from "./api.js";
import { button, count, element, form, link, table, text } from "./elements.js";

const remove = (desk, what, resource) => button("Delete", () => {
  if (confirm(`Delete ${what}?`)) desk.act(() => ask("DELETE", resource), "deleted");
});

const tagsOf = (user) => (Array.isArray(user.tags) ? user.tags.join(", ") : user.tags);

export const users = (desk) => ({
  async live() {
    return [table([
      { title: "Name", cell: (user) => link(user.name, "user", user.name) },
      { title: "Tags", cell: tagsOf },
      { title: "", cell: (user) => remove(desk, `user '${user.name}'`, `users/${path(user.name)}`) },
    ], await get("users"))];
  },
  tools: [element("h2", {}, "New user, or new password and tags"), form(
    [["name", "Name"], ["password", "Password", "password"], ["tags", "Tags (administrator, monitoring, policymaker, management)"]], "Set",
    ({ name, password, tags }, sent) => desk.act(async () => { await ask("PUT", `users/${path(name)}`, { password, tags }); sent.reset(); }, `user '${name}' is set`),
  )],
});

export const user = (desk, name) => ({
  async live() {
    const [user, permissions] = await Promise.all([get(`users/${path(name)}`), get(`users/${path(name)}/permissions`)]);
    return [element("h2", {}, `User ${name}, tags: ${tagsOf(user) || "none"}`), table([
      text("Virtual host", "vhost"),
      text("Configure", "configure"),
      text("Write", "write"),
      text("Read", "read"),
      { title: "", cell: (row) => remove(desk, `the permissions of '${name}' in '${row.vhost}'`, `permissions/${path(row.vhost, name)}`) },
    ], permissions)];
  },
  tools: [element("h2", {}, "Set permissions"), form(
    [["vhost", "Virtual host", "text", "/"], ["configure", "Configure", "text", ".*"], ["write", "Write", "text", ".*"], ["read", "Read", "text", ".*"]], "Set",
    ({ vhost, ...permissions }) => desk.act(() => ask("PUT", `permissions/${path(vhost, name)}`, permissions), "set"),
  )],
});

export const vhosts = (desk) => ({
  async live() {
    return [table([
      text("Name", "name"),
      text("Description", "description"),
      count("Ready", "messages_ready"),
      count("Unacked", "messages_unacknowledged"),
      { title: "", cell: (vhost) => remove(desk, `virtual host '${vhost.name}' with everything in it`, `vhosts/${path(vhost.name)}`) },
    ], await get("vhosts"))];
  },
  tools: [element("h2", {}, "New virtual host"), form([["name", "Name"], ["description", "Description"]], "Add",
    ({ name, description }) => desk.act(() => ask("PUT", `vhosts/${path(name)}`, { description }), `virtual host '${name}' is there`))],
});

export const policies = (desk) => ({
  async live() {
    const kinds = [["Policies", "policies"], ["Operator policies", "operator-policies"]];
    const lists = await Promise.all(kinds.map(([, kind]) => get(kind)));
    return kinds.flatMap(([title, kind], index) => [element("h2", {}, title), table([
      text("Virtual host", "vhost"),
      text("Name", "name"),
      text("Pattern", "pattern"),
      { title: "Applies to", cell: (policy) => policy["apply-to"] },
      count("Priority", "priority"),
      { title: "Definition", cell: (policy) => element("pre", {}, JSON.stringify(policy.definition, null, 1)) },
      { title: "", cell: (policy) => remove(desk, `policy '${policy.name}'`, `${kind}/${path(policy.vhost, policy.name)}`) },
    ], lists[index])]);
  },
  tools: [element("h2", {}, "Set a policy"), form(
    [
      ["vhost", "Virtual host", "text", "/"], ["name", "Name"], ["pattern", "Pattern"], ["apply", "Applies to", ["all", "queues", "exchanges"]],
      ["priority", "Priority", "number", "0"], ["definition", "Definition (JSON)", "text", "{}"],
    ], "Set",
    ({ vhost, name, pattern, apply, priority, definition }) => desk.act(async () => ask("PUT", `policies/${path(vhost, name)}`,
      { pattern, "apply-to": apply, priority: Number(priority), definition: JSON.parse(definition) }), `policy '${name}' is set`),
  )],
});
