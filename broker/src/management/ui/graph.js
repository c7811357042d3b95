// Lines over the last minutes, from the samples that the API keeps.

import { element, number } from "./elements.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [480, 110];
const AGE_SECONDS = 600;
const STEP_SECONDS = 10;

// What to add to a query so that the answer has samples.
export const PAST = ["lengths", "msg_rates", "data_rates"].map((kind) => `${kind}_age=${AGE_SECONDS}&${kind}_incr=${STEP_SECONDS}`).join("&");

const draw = (tag, attributes) => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
};

// The API tells the newest sample first.
const points = (details) => (details?.samples ?? []).map(({ sample, timestamp }) => [timestamp, sample]).reverse();

// How fast a count grew from each sample to the next.
const growth = (all) => all.slice(1).map(([time, value], before) => {
  const [then, old] = all[before];
  return [time, Math.max(0, (value - old) * 1000 / (time - then))];
});

export const lengths = (named) => Object.entries(named).map(([name, details]) => [name, points(details)]);
export const rates = (named) => Object.entries(named).map(([name, details]) => [name, growth(points(details))]);

// One line for each name, with what it is now; nothing while there is nothing to draw.
export function graph(title, lines, unit = "") {
  const shown = lines.filter(([, line]) => line.length > 1);
  if (shown.length === 0) return null;
  const all = shown.flatMap(([, line]) => line);
  const last = Math.max(...all.map(([time]) => time));
  const most = Math.max(1, ...all.map(([, value]) => value));
  const place = ([time, value]) => {
    const x = WIDTH * (1 - (last - time) / (AGE_SECONDS * 1000));
    return `${x.toFixed(1)},${(HEIGHT - 1 - (HEIGHT - 2) * value / most).toFixed(1)}`;
  };
  const picture = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
  picture.append(...shown.map(([, line], index) => draw("polyline", { class: `line${index}`, points: line.map(place).join(" ") })));
  const now = (line) => `${number(Math.round(line.at(-1)[1] * 10) / 10)}${unit}`;
  return element("figure", {},
    element("figcaption", {}, `${title}, ten minutes, up to ${number(Math.round(most * 10) / 10)}${unit}`),
    picture,
    element("p", {}, shown.map(([name, line], index) => element("span", { class: `line${index}` }, `${name} ${now(line)} `))));
}
