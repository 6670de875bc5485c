/** The page with all photographs. */

import { accept } from "./dropping.js";
import { Feed } from "./feed.js";
import { Story, inFlight } from "./story.js";
import { Tiles } from "./tiles.js";
import { Uploads } from "./uploads.js";
import { number, word } from "./words.js";

/** Milliseconds between two looks: while the worker is killed, while something waits, while it is archived, and else. */
const PACE = { story: 250, waiting: 700, settling: 2000, calm: 5000, unreached: 3000 };

const element = (id) => document.getElementById(id);
const list = element("tiles");
const tiles = new Tiles(list);
const feed = new Feed("feed.json", pace);
const uploads = new Uploads("upload", Number(list.dataset.maxBytes), tiles);
const kill = element("kill");
const story = kill ? new Story(feed, uploads, element("story")) : null;
let states = new Map();
let filter = "";

function pace(body, reached) {
  if (!reached) return PACE.unreached;
  if (story?.running) return PACE.story;
  if (!body || inFlight(body).length) return PACE.waiting;
  return body.summary.published > body.summary.archived ? PACE.settling : PACE.calm;
}

function show() {
  const { photos, summary, health, worker } = feed.body;
  tiles.show(photos);
  count(summary);
  pulse(health, worker);
  announce(photos);
  const total = summary.waiting + summary.published + summary.refused;
  element("newest").hidden = total <= photos.length;
  element("newest").textContent = word("newest", { shown: number(photos.length), total: number(total) });
  empty();
  offer();
}

function count(summary) {
  for (const button of document.querySelectorAll("[data-count]")) {
    button.firstElementChild.textContent = number(summary[button.dataset.count]);
    button.dataset.some = String(summary[button.dataset.count] > 0);
  }
}

function pulse(health, worker) {
  element("health").dataset.status = health;
  element("health").lastElementChild.textContent = word(`health.${health}`);
  if (!element("worker")) return;
  element("worker").dataset.status = worker.pid ? "healthy" : "degraded";
  element("worker").lastElementChild.textContent = worker.pid ?? word("worker.gone");
}

/** Tell those who do not see the page what changed, in one sentence. */
function announce(photos) {
  const told = [];
  for (const state of ["published", "refused"]) {
    const changed = photos.filter((photo) => photo.state === state && states.get(photo.id) === "waiting");
    if (changed.length) told.push(word(`told.${state}`, { names: names(changed.map((photo) => photo.name)) }));
  }
  states = new Map(photos.map((photo) => [photo.id, photo.state]));
  if (told.length) element("announcer").textContent = told.join("; ");
}

function names(all) {
  return all.length > 3 ? word("told.many", { count: all.length }) : all.join(", ");
}

function empty() {
  const shown = filter ? list.querySelectorAll(shownBy(filter)).length : tiles.size;
  element("empty").hidden = tiles.size > 0 || !feed.body;
  element("none").hidden = shown > 0 || !tiles.size;
}

function shownBy(name) {
  const states = { waiting: ["queued", "sending", "failed", "waiting", "rendering", "rendered", "dead"], published: ["published", "archived"] };
  return (states[name] ?? [name]).map((state) => `[data-state="${state}"]`).join(",");
}

function choose(event) {
  const button = event.target.closest("[data-count]");
  if (!button) return;
  filter = filter === button.dataset.count ? "" : button.dataset.count;
  list.dataset.filter = filter;
  for (const each of document.querySelectorAll("[data-count]")) {
    each.setAttribute("aria-pressed", String(each.dataset.count === filter));
  }
  empty();
}

function progress() {
  const { done, total } = uploads;
  element("sending").hidden = done === total;
  element("sending").firstElementChild.value = total ? (done / total) * 100 : 0;
  element("sending").lastElementChild.textContent = word("sending", { done, total });
  empty();
}

/** Say on the button what a press would do now. */
function offer() {
  if (!kill) return;
  const busy = inFlight(feed.body).length ? "busy" : "calm";
  const when = story.running ? "running" : busy;
  kill.setAttribute("aria-disabled", String(story.running));
  for (const label of kill.children) label.hidden = label.dataset.when !== when;
}

async function tell() {
  if (story.running) return;
  const told = story.run();
  offer();
  await told;
  offer();
}

function take(files) {
  window.scrollTo({ top: 0 });
  uploads.add(files);
}

feed.addEventListener("change", show);
feed.addEventListener("asked", (event) => (element("offline").hidden = event.detail));
uploads.addEventListener("change", progress);
uploads.addEventListener("failed", (event) => (element("announcer").textContent = word("told.failed", { names: event.detail })));
uploads.addEventListener("sent", ({ detail: { tile, photo } }) => {
  tiles.adopt(tile, { ...photo, state: "waiting", dead: false, retried: 0, rendering: [], renditions: { thumbnail: null, card: null, web: null } });
  feed.poke();
});
element("files").addEventListener("change", ({ target }) => {
  take(Array.from(target.files));
  target.value = ""; // the same file may be chosen again
});
document.querySelector(".counters").addEventListener("click", choose);
kill?.addEventListener("click", tell);
accept(take);
feed.poke();
