/** One photograph of the wall: first a file that is sent, then what the gallery says of it. */

import { word } from "./words.js";

const blank = document.getElementById("tile").content.firstElementChild;

/** What became of a photograph, in one word; it names the tile's look and its text. */
export function stateOf(photo) {
  if (photo.dead && photo.state === "waiting") return "dead";
  if (photo.state !== "waiting") return photo.archived ? "archived" : photo.state;
  const made = Object.values(photo.renditions);
  if (made.every(Boolean)) return "rendered";
  return photo.rendering.length || made.some(Boolean) ? "rendering" : "waiting";
}

export class Tile {
  element = blank.cloneNode(true);
  #shown = "";

  constructor(name) {
    this.#named(name);
    this.#find("img").addEventListener("load", ({ target }) => target.classList.add("loaded"));
  }

  /** Show that a file is being sent: `percent` of it, or `null` while it waits for its turn. */
  sending(percent) {
    const progress = this.#find("progress");
    progress.hidden = false;
    if (percent !== null) progress.value = percent;
    this.#state(percent === null ? "queued" : "sending");
    this.#explain("");
    this.#find(".actions").hidden = true;
  }

  /** Show that a file could not be sent, why, and what can be done: `{retry, dismiss}`; `retry` may be missing. */
  failed(why, actions) {
    this.#find("progress").hidden = true;
    this.#state("failed");
    this.#explain(why);
    this.#find(".actions").hidden = false;
    for (const button of this.element.querySelectorAll("[data-action]")) {
      const act = actions[button.dataset.action];
      button.hidden = !act;
      button.onclick = act ?? null;
    }
  }

  /** Show what the gallery says of the photograph. */
  show(photo) {
    const text = JSON.stringify(photo);
    if (text === this.#shown) return;
    this.#shown = text;
    this.#named(photo.name, photo.url);
    this.#state(stateOf(photo));
    this.#find("progress").hidden = true;
    this.#find(".actions").hidden = true;
    this.#explain(photo.state === "refused" ? word("refused.why", photo) : "");
    this.#retried(photo.retried);
    this.#picture(photo.renditions);
    for (const item of this.element.querySelectorAll("[data-recipe]")) rendition(item, photo);
  }

  #find(selector) {
    return this.element.querySelector(selector);
  }

  #named(name, url) {
    const link = this.#find(".name a");
    link.textContent = name;
    link.title = name;
    if (url) link.href = url;
  }

  #state(state) {
    this.element.dataset.state = state;
    this.#find(".word").textContent = word(`state.${state}`);
  }

  #explain(text) {
    const reason = this.#find(".reason");
    reason.textContent = text;
    reason.hidden = !text;
  }

  #retried(count) {
    const retried = this.#find(".retried");
    retried.hidden = !count;
    retried.textContent = word("retried", { count });
  }

  #picture({ thumbnail, card }) {
    const image = this.#find("img");
    if (!thumbnail && !card) return;
    image.hidden = false; // before the address: a lazy picture that is not displayed is not loaded
    image.loading = "lazy";
    if (thumbnail && card) image.srcset = `${thumbnail} 320w, ${card} 720w`;
    image.sizes = "(max-width: 40rem) 46vw, 20rem";
    if (image.getAttribute("src") !== (thumbnail ?? card)) image.src = thumbnail ?? card;
  }
}

function rendition(item, photo) {
  const name = item.dataset.recipe;
  const making = photo.rendering.includes(name) ? "making" : "missing";
  item.dataset.rendition = photo.renditions[name] ? "made" : making;
  item.querySelector(".unseen").textContent = `: ${word(`rendition.${item.dataset.rendition}`)}`;
}
