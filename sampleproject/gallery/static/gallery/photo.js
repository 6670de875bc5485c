/** The page of one photograph: it fills itself, and follows the photograph until its last step. */

import { compare, frame } from "./comparison.js";
import { Feed } from "./feed.js";
import { Steps } from "./steps.js";
import { day, duration, word } from "./words.js";

const PACE = 700;

const element = (id) => document.getElementById(id);
const feed = new Feed(element("photo").dataset.trail, (body, reached) => {
  if (!reached) return 4 * PACE;
  return body && isComplete(body) ? null : PACE;
});
const steps = new Steps(element("steps"));

function isComplete({ state, steps: all, comparison }) {
  const has = (kind) => all.some((step) => step.kind === kind);
  if (state === "refused") return has("handled"); // which is written once the refusal is
  return has("archived") && Boolean(comparison?.before.picture);
}

function show() {
  const { body } = feed;
  steps.show(body.steps);
  head(body);
  picture(body);
  if (!body.comparison) return;
  element("comparison").hidden = false;
  load(element("before"), body.comparison.before.picture);
  load(element("after"), body.comparison.after.picture);
  compare(element("facts"), body.comparison);
  element("comparison").style.setProperty("--frame", frame(body.comparison));
}

function head({ state, steps: all }) {
  const at = Object.fromEntries(all.map((step) => [step.kind, Date.parse(step.at)]));
  const shown = at.archived ? "archived" : state;
  element("photo").dataset.state = element("state").dataset.state = shown;
  if (element("state").textContent !== word(`state.${shown}`)) {
    element("state").textContent = word(`state.${shown}`);
    element("announcer").textContent = word(`state.${shown}`);
  }
  element("course").textContent = word(`course.${shown}`, {
    day: day(at.uploaded),
    published: duration(at.published - at.uploaded),
    refused: duration(at.refused - at.uploaded),
    archived: duration(at.archived - at.published),
  });
}

function picture(body) {
  const web = body.comparison?.after;
  element("instead").hidden = Boolean(web);
  element("instead").textContent = body.state === "refused" ? word("refused.why", body) : word("rendering");
  if (!web) return;
  element("web").width = web.stored_width;
  element("web").height = web.stored_height;
  load(element("web"), web.picture);
}

function load(image, address) {
  if (address && image.getAttribute("src") !== address) image.src = address;
}

async function copy() {
  await navigator.clipboard.writeText(element("correlation").textContent);
  element("announcer").textContent = word("copied");
  element("copy").dataset.done = "true";
  setTimeout(() => delete element("copy").dataset.done, 1500);
}

element("copy").hidden = !navigator.clipboard;
element("copy").addEventListener("click", copy);
feed.addEventListener("change", show);
feed.poke();
