/** The trail: one line for each step, with a bar that shows when it was and how long it took. */

import { duration, time, word } from "./words.js";

const ENDS = new Set(["archived", "refused", "dead"]);
const blank = document.getElementById("step").content.firstElementChild;

export class Steps {
  #list;
  #lines = new Map();

  constructor(list) {
    this.#list = list;
  }

  /** Show `steps`, oldest first; lines that are there already stay, with the focus that they may have. */
  show(steps) {
    const times = steps.map((step) => Date.parse(step.at));
    const first = times[0];
    const span = Math.max(end(steps, times) - first, 1);
    const lines = steps.map((step, index) => {
      const line = this.#line(step);
      place(line, Math.min(1, (times[index] - first) / span), (step.ms ?? 0) / span);
      line.querySelector(".since").textContent = index ? word("since", { duration: duration(times[index] - first) }) : "";
      return line;
    });
    lines.forEach((line, index) => {
      if (this.#list.children[index] !== line) this.#list.insertBefore(line, this.#list.children[index] ?? null);
    });
    while (this.#list.childElementCount > lines.length) this.#list.lastElementChild.remove();
  }

  #line(step) {
    const key = `${step.admin} ${step.kind}`;
    if (!this.#lines.has(key)) this.#lines.set(key, blank.cloneNode(true));
    const line = this.#lines.get(key);
    fill(line, step);
    return line;
  }
}

/** When the flow had ended. What is rendered later, for this very page, would press the rest together. */
function end(steps, times) {
  const last = steps.findLastIndex((step) => ENDS.has(step.kind));
  return times.at(last);
}

function fill(line, step) {
  const part = (name) => line.querySelector(name);
  const at = new Date(step.at);
  line.dataset.kind = step.kind;
  part("b").textContent = step.title;
  part("a").href = step.admin;
  part("a .unseen").textContent = ` ${word("row.of", { title: step.title })}`;
  part("time").dateTime = step.at;
  part("time").textContent = time(at);
  part(".who").textContent = who(step.who);
  part(".who").title = step.who;
  part(".took").textContent = step.ms === null ? "" : word("took", { duration: duration(step.ms) });
  part(".attempt").textContent = step.attempt > 1 ? word("attempt", { count: step.attempt }) : "";
  part(".detail").textContent = step.detail;
}

/** `end` and `length` are parts of the whole time; what takes no time is a dot. */
function place(line, end, length) {
  const bar = line.querySelector("i");
  bar.style.insetInlineStart = `min(${Math.max(0, end - length) * 100}%, calc(100% - 0.25rem))`;
  bar.style.inlineSize = `${Math.min(length, end) * 100}%`;
}

/** Return `host:pid:role` as a person says it. */
function who(text) {
  const [, pid, role] = /:(\d+):(\w+)$/.exec(text) ?? [];
  return role ? word(`who.${role}`, { pid }) : text;
}
