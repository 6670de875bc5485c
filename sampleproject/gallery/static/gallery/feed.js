/** Follows a JSON address: asks again and again, and is told 304 while nothing has changed. */

export class Feed extends EventTarget {
  /** The last answer. */
  body = null;
  #url;
  #pace;
  #etag = "";
  #timer = 0;
  #asking = null;

  /** `pace(body)` returns the milliseconds until the next question, or `null` to ask no more. */
  constructor(url, pace) {
    super();
    this.#url = url;
    this.#pace = pace;
    document.addEventListener("visibilitychange", () => this.#resume());
  }

  /** Ask now, or as soon as the question that is under way is answered. */
  async poke() {
    clearTimeout(this.#timer);
    await this.#asking;
    this.#asking ??= this.#ask();
    await this.#asking;
  }

  /** Resolve with the first answer that `test` holds for, or with `null` after `patience` milliseconds. */
  until(test, patience) {
    return new Promise((resolve) => {
      const done = (body) => {
        clearTimeout(timer);
        this.removeEventListener("change", look);
        resolve(body);
      };
      const look = () => test(this.body) && done(this.body);
      const timer = setTimeout(done, patience, null);
      this.addEventListener("change", look);
      if (this.body) look();
    });
  }

  async #ask() {
    let reached = true;
    try {
      await this.#fetch();
    } catch {
      reached = false;
    }
    this.#asking = null;
    this.dispatchEvent(new CustomEvent("asked", { detail: reached }));
    const pause = this.#pace(this.body, reached);
    clearTimeout(this.#timer);
    if (pause !== null && !document.hidden) this.#timer = setTimeout(() => this.poke(), pause);
  }

  async #fetch() {
    const headers = this.#etag ? { "If-None-Match": this.#etag } : {};
    const answer = await fetch(this.#url, { headers, cache: "no-store" });
    if (answer.status === 304) return;
    if (!answer.ok) throw new Error(String(answer.status));
    this.body = await answer.json();
    this.#etag = answer.headers.get("ETag") ?? "";
    this.dispatchEvent(new Event("change"));
  }

  #resume() {
    clearTimeout(this.#timer);
    if (!document.hidden && this.#pace(this.body, true) !== null) this.poke();
  }
}
