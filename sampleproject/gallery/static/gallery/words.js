/** The texts of the page, as the server translated them into `<template id="words">`. */

const table = new Map(
  Array.from(document.getElementById("words").content.querySelectorAll("data"), (each) => [
    each.value,
    each.textContent,
  ]),
);
const language = document.documentElement.lang || "en";
const plurals = new Intl.PluralRules(language);

/** Return a text with its `%(name)s` filled in; a text in several forms is chosen by `values.count`. */
export function word(key, values = {}) {
  const text = table.get(`${key}.${plurals.select(Number(values.count ?? 0))}`) ?? table.get(`${key}.other`);
  return fill(table.get(key) ?? text ?? key, values);
}

/** Whether there is a text for `key`. */
export const knows = (key) => table.has(key);

/** Return a number as people of this language write it. */
export const number = (value, options = {}) => new Intl.NumberFormat(language, options).format(value);

/** Return a size in bytes in the largest unit that leaves a whole part. */
export function bytes(size) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(size, 1)) / 3));
  const digits = power > 0 && size / 1000 ** power < 10 ? 1 : 0;
  return number(size / 1000 ** power, {
    style: "unit",
    unit: units[power],
    unitDisplay: power ? "short" : "long",
    maximumFractionDigits: digits,
  });
}

/** Return a duration in milliseconds in the unit that reads best. */
export function duration(ms) {
  if (ms < 1000) return `${number(ms, { maximumFractionDigits: ms < 10 ? 1 : 0 })}\u00a0ms`;
  if (ms < 100_000) return `${number(ms / 1000, { maximumFractionDigits: 1 })}\u00a0s`;
  return `${number(ms / 60_000, { maximumFractionDigits: 1 })}\u00a0min`;
}

/** Return a time of day with its milliseconds. */
export function time(date) {
  const parts = { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" };
  return new Intl.DateTimeFormat(language, parts).format(date);
}

/** Return a day. */
export const day = (date) => new Intl.DateTimeFormat(language, { dateStyle: "long" }).format(date);

function fill(text, values) {
  return text.replace(/%\((\w+)\)s/g, (whole, name) => (name in values ? String(values[name]) : whole));
}
