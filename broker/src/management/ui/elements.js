// What pages are made of. Everything from the broker becomes text, never markup: names may be anything.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child != null));
  return made;
}

export const link = (text, ...parts) => element("a", { href: `#${parts.map(encodeURIComponent).join("/")}` }, text);

export const button = (text, onclick) => element("button", { type: "button", onclick }, text);

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count) {
  if (typeof count !== "number") return "";
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? count : count.toFixed(1)} ${UNITS[unit]}`;
}

export const number = (count) => (typeof count === "number" ? count.toLocaleString("en") : "");

export const rate = (details) => (typeof details?.rate === "number" ? `${number(Math.round(details.rate * 10) / 10)}/s` : "");

export const rateOfBytes = (details) => (typeof details?.rate === "number" ? `${bytes(Math.round(details.rate))}/s` : "");

export const tiles = (figures) =>
  element("div", { class: "tiles" }, Object.entries(figures).map(([name, value]) =>
    element("div", {}, element("span", { class: "quiet" }, name), element("b", {}, String(value)))));

// A form from its fields: [name, label, type, value]; types are those of inputs, "area", and lists for a choice.
export function form(fields, verb, submit) {
  const inputs = fields.map(([name, label, type = "text", value = ""]) => {
    let input;
    if (Array.isArray(type)) {
      input = element("select", { name }, type.map((choice) => element("option", {}, choice)));
    } else if (type === "area") {
      input = element("textarea", { name, rows: 3, cols: 40 });
      input.value = value;
    } else {
      input = element("input", { name, type, autocomplete: type === "password" ? "current-password" : "off" });
      if (type === "checkbox") input.checked = value === true;
      else input.value = value;
    }
    return element("label", { class: type === "checkbox" ? "check" : null }, label, input);
  });
  return element("form", {
    onsubmit(event) {
      event.preventDefault();
      const values = {};
      for (const input of event.target.elements) {
        if (input.name) values[input.name] = input.type === "checkbox" ? input.checked : input.value;
      }
      submit(values, event.target);
    },
  }, inputs, element("button", {}, verb));
}

// A table from rows and columns: { title, cell(row), number, sort }. A column with `sort` orders the whole list by it.
export function table(columns, rows, order = {}) {
  const heads = columns.map(({ title, number, sort }) => {
    const mark = sort && order.sort === sort ? (order.reverse ? " ▼" : " ▲") : "";
    const text = sort && order.by ? button(title + mark, () => order.by(sort)) : title;
    return element("th", { class: number ? "number" : null }, text);
  });
  const lines = rows.map((row) =>
    element("tr", {}, columns.map(({ cell, number }) => element("td", { class: number ? "number" : null }, cell(row) ?? ""))));
  return element("table", {}, element("thead", {}, element("tr", {}, heads)), element("tbody", {}, lines));
}

// Columns of a field, of a number, and of how fast one of the message_stats grows.
export const text = (title, field) => ({ title, sort: field, cell: (row) => String(row[field] ?? "") });
export const count = (title, field) => ({ title, sort: field, number: true, cell: (row) => number(row[field]) });
export const rateOf = (title, field) => ({
  title, sort: `message_stats.${field}_details.rate`, number: true, cell: (row) => rate(row.message_stats?.[`${field}_details`]),
});
