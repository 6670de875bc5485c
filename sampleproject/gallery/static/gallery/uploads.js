/** Sends files, each by a request of its own, three at a time; what fails can be tried again. */

import { post } from "./sending.js";
import { bytes, knows, word } from "./words.js";

const AT_ONCE = 3;

export class Uploads extends EventTarget {
  /** Files of this round that were given to us, and those that reached an end. A round ends when nothing is left. */
  total = 0;
  done = 0;
  #waiting = [];
  #running = 0;
  #url;
  #limit;
  #tiles;

  /** `limit` is the size, in bytes, from which on the gallery would refuse a file. */
  constructor(url, limit, tiles) {
    super();
    this.#url = url;
    this.#limit = limit;
    this.#tiles = tiles;
  }

  /** Send `files`; resolve with the ids of those that were taken. */
  async add(files) {
    const ids = await Promise.all(Array.from(files, (file) => this.#begin(file)));
    return ids.filter(Boolean);
  }

  #begin(file) {
    return new Promise((resolve) => this.#enqueue({ file, tile: this.#tiles.begin(file.name), resolve }));
  }

  #enqueue(job) {
    this.total += 1;
    if (job.file.size > this.#limit) {
      this.#fail(job, word("error.large", { size: bytes(job.file.size), limit: bytes(this.#limit) }), false);
    } else {
      job.tile.sending(null);
      this.#waiting.push(job);
    }
    this.#next();
  }

  #next() {
    while (this.#running < AT_ONCE && this.#waiting.length) this.#send(this.#waiting.shift());
    this.dispatchEvent(new Event("change"));
    if (this.done === this.total) this.total = this.done = 0;
  }

  async #send(job) {
    this.#running += 1;
    job.tile.sending(0);
    const form = new FormData();
    form.append("photos", job.file, job.file.name);
    const { status, body } = await post(this.#url, form, (percent) => job.tile.sending(percent));
    this.#running -= 1;
    if (status === 202) this.#sent(job, body.accepted[0]);
    else this.#fail(job, problem(status), status !== 413);
    this.#next();
  }

  #sent(job, photo) {
    this.done += 1;
    this.dispatchEvent(new CustomEvent("sent", { detail: { tile: job.tile, photo } }));
    job.resolve(photo.id);
  }

  #fail(job, why, again) {
    this.done += 1;
    const dismiss = () => job.tile.element.remove();
    job.tile.failed(why, { dismiss, retry: again ? () => this.#enqueue(job) : null });
    this.dispatchEvent(new CustomEvent("failed", { detail: job.file.name }));
    job.resolve(null);
  }
}


function problem(status) {
  if (status === 0) return word("error.network");
  return knows(`error.${status}`) ? word(`error.${status}`) : word("error.server", { status });
}
