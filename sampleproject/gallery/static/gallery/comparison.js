/** What the original says about itself, and what is left of it in the published picture. */

import { bytes, number, word } from "./words.js";

const UPRIGHT = 1;

const FACTS = {
  orientation: (file) => file.orientation !== UPRIGHT && word(`orientation.${file.orientation}`),
  position: ({ position }) => (Array.isArray(position) ? position.map(degrees).join(", ") : position && word("position.hidden")),
  camera: ({ maker, camera }) => [maker, camera].filter(Boolean).join(" "),
  taken: (file) => file.taken,
  tags: (file) => file.tags && number(file.tags),
  pixels: (file) => `${number(file.stored_width)} × ${number(file.stored_height)}`,
  format: (file) => file.format.toUpperCase(),
  bytes: (file) => bytes(file.bytes),
};

/** Return the width by height of a frame that suits both pictures: never upright, so that both are seen at once. */
export function frame({ before, after }) {
  const ratios = [before, after].map((file) => file.stored_width / file.stored_height);
  return Math.min(3, Math.max(1, Math.min(...ratios)));
}

/** Fill the table `body` with what `before` and `after` say. */
export function compare(body, { before, after }) {
  body.replaceChildren(...Object.entries(FACTS).map(([name, read]) => row(name, read(before), read(after))));
}

function row(name, before, after) {
  const line = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = word(`fact.${name}`);
  const absent = name === "orientation" ? word(`orientation.${UPRIGHT}`) : word("absent");
  const gone = name === "orientation" ? absent : word("gone");
  line.append(head, cell(before || absent), cell(after || (before ? gone : absent)));
  line.dataset.removed = String(Boolean(before) && !after);
  return line;
}

function cell(text) {
  const made = document.createElement("td");
  made.textContent = text;
  return made;
}

const degrees = (value) => number(value, { minimumFractionDigits: 4, maximumFractionDigits: 5 });
