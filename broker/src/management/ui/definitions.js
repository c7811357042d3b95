// Definitions as a file: download, and upload after a look at what would change.

import { ask, getText } from "./api.js";
import { button, element, form } from "./elements.js";

async function download() {
  const file = new Blob([await getText("definitions")], { type: "application/json" });
  const anchor = element("a", { href: URL.createObjectURL(file), download: "definitions.json" });
  anchor.click();
  URL.revokeObjectURL(anchor.href);
}

// The file is sent as it is: what a browser reads and writes again may have lost digits.
export function definitions(desk) {
  const difference = element("div");
  const apply = (text) => button("Apply", () => desk.act(async () => {
    await ask("POST", "definitions", text);
    difference.replaceChildren();
  }, "applied"));
  const compare = async (file) => {
    difference.replaceChildren();
    if (file === undefined) throw new Error("choose a file first");
    const text = await file.text();
    const { differences } = await ask("POST", "definitions?dry_run=true", text);
    const told = differences.length === 0 ? ["nothing would change"] : differences;
    difference.append(element("pre", {}, told.join("\n")), apply(text));
  };
  return [
    element("h2", {}, "Definitions"),
    button("Download", () => desk.act(download, "downloaded")),
    form([["file", "Upload", "file"]], "Compare", (_, sent) => desk.act(() => compare(sent.elements.file.files[0]), "compared: nothing has changed yet")),
    element("p", { class: "quiet" }, "+ would be made, ~ would be changed, = differs and stays as it is, ! is not supported"),
    difference,
  ];
}
