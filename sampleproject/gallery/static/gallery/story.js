/** Kills the worker in mid-flow and tells, from what the gallery answers, what becomes of the photographs. */

import { draw } from "./samples.js";
import { post } from "./sending.js";
import { number, word } from "./words.js";

const SAMPLES = 6;
/** How long the story waits, in milliseconds, until work has begun, and for the last photograph to settle. */
const BEGINNING = 15_000;
const END = 180_000;

/** The ids of the photographs that have not reached their end. */
export const inFlight = (body) =>
  (body?.photos ?? []).filter((photo) => photo.state === "waiting" && !photo.dead).map((photo) => photo.id);

export class Story {
  /** Whether a story is being told. */
  running = false;
  #feed;
  #uploads;
  #list;
  #began = 0;

  constructor(feed, uploads, list) {
    this.#feed = feed;
    this.#uploads = uploads;
    this.#list = list;
  }

  /** Tell one story, from the first line to the last. */
  async run() {
    this.running = true;
    this.#list.replaceChildren();
    this.#began = performance.now();
    try {
      if (await this.#putInFlight()) await this.#kill();
    } finally {
      this.running = false;
    }
  }

  async #putInFlight() {
    if (!inFlight(this.#feed.body).length) {
      this.#say("story.samples");
      await this.#uploads.add(await draw(SAMPLES, (count) => word("sample", { number: count })));
    }
    this.#feed.poke();
    const begun = (body) => inFlight(body).length && body.photos.some((photo) => photo.rendering.length);
    const body = (await this.#feed.until(begun, BEGINNING)) ?? this.#feed.body;
    const count = inFlight(body).length;
    this.#say(count ? "story.sent" : "story.idle", { count });
    return count > 0;
  }

  async #kill() {
    const { status, body } = await post("kill-worker");
    if (status !== 200) {
      this.#say(status === 409 ? "story.none" : "story.failed", { why: status });
      return;
    }
    const killed = performance.now();
    this.#say("story.killed", { pid: body.killed, count: body.in_flight.length }, "bad");
    this.#feed.poke();
    await this.#follow(body.killed, killed, new Set(body.in_flight));
  }

  async #follow(dead, killed, ids) {
    const started = await this.#feed.until((body) => body.worker.pid && body.worker.pid !== dead, END);
    if (started) {
      const seconds = number((performance.now() - killed) / 1000, { maximumFractionDigits: 1 });
      this.#say("story.started", { pid: started.worker.pid, seconds });
    }
    const line = this.#say("story.holds");
    const settles = () => this.#tell(line, this.#count(ids));
    this.#feed.addEventListener("change", settles);
    await this.#feed.until((body) => !this.#count(ids, body).left, END);
    this.#feed.removeEventListener("change", settles);
    this.#end(line, this.#count(ids));
  }

  /** What became of `ids`. Lost is, in the end, whatever has not settled: gone, still waiting or given up. */
  #count(ids, body = this.#feed.body) {
    const mine = body.photos.filter((photo) => ids.has(photo.id));
    const having = (state) => mine.filter((photo) => photo.state === state).length;
    const [published, refused] = [having("published"), having("refused")];
    const settled = published + refused;
    const left = inFlight({ photos: mine }).length;
    return { total: ids.size, published, refused, settled, left, lost: ids.size - settled };
  }

  #tell(line, counted) {
    if (counted.settled) line.lastElementChild.textContent = word("story.progress", counted);
  }

  #end(line, counted) {
    const { lost } = counted;
    const doubled = this.#feed.body.summary.doubled;
    const key = counted.refused ? "story.end.refused" : "story.end";
    line.lastElementChild.textContent = word(key, { ...counted, doubled });
    line.dataset.tone = lost || doubled ? "bad" : "good";
    line.firstElementChild.textContent = this.#clock();
  }

  #say(key, values = {}, tone = "") {
    const line = document.createElement("li");
    const [clock, text] = [document.createElement("time"), document.createElement("span")];
    clock.textContent = this.#clock();
    text.textContent = word(key, values);
    line.dataset.tone = tone;
    line.append(clock, text);
    this.#list.append(line);
    return line;
  }

  #clock() {
    const seconds = (performance.now() - this.#began) / 1000;
    return number(seconds, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  }
}
