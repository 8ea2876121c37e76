"use strict";

// All that the page shows is there without this file: it adds filters, order, and a look at one line at a time.

const MICRO_USD_PER_USD = 1_000_000n;
const STEP = 300;
const byId = (id) => document.getElementById(id);
const list = byId("cards");
const controls = byId("controls");
const dialog = byId("detail");

// Amounts are integers in micro-USD; a line without one has null, which is not zero.
const cards = Array.from(list.children, (element, place) => ({
  element,
  place,
  state: element.dataset.state,
  bill: element.dataset.bill,
  charge: element.dataset.charge === undefined ? null : BigInt(element.dataset.charge),
  pixels: element.dataset.pixels === undefined ? null : Number(element.dataset.pixels),
  text: null,
}));
let shown = cards;
let drawn = 0;
let opened = null;

function formatUsd(microUsd) {
  const amount = microUsd < 0n ? -microUsd : microUsd;
  const rest = String(amount % MICRO_USD_PER_USD).padStart(6, "0");
  return `${microUsd < 0n ? "-" : ""}${amount / MICRO_USD_PER_USD}.${rest}`;
}

function readText(card) {
  card.text ??= card.element.textContent.toLowerCase();
  return card.text;
}

function readChecked(name) {
  return new Set(Array.from(controls.querySelectorAll(`input[name="${name}"]:checked`), (input) => input.value));
}

function makeFilter() {
  const words = byId("text").value.toLowerCase().split(/\s+/).filter(Boolean);
  const states = readChecked("state");
  const bills = readChecked("bill");
  return (card) =>
    (states.size === 0 || states.has(card.state)) &&
    (bills.size === 0 || bills.has(card.bill)) &&
    words.every((word) => readText(card).includes(word));
}

// What a line does not have comes last in both directions; equal lines keep their order.
function makeComparison() {
  const [field, direction] = byId("order").value.split("-");
  if (field === "line") return (a, b) => a.place - b.place;
  const sign = direction === "down" ? -1 : 1;
  return (a, b) => {
    const [left, right] = [a[field], b[field]];
    if (left === right) return a.place - b.place;
    if (left === null) return 1;
    if (right === null) return -1;
    return left < right ? -sign : sign;
  };
}

function describeShown() {
  const charged = shown.filter((card) => card.charge !== null);
  const total = charged.reduce((sum, card) => sum + card.charge, 0n);
  const pending = shown.filter((card) => card.bill === "pending").length;
  const parts = [`${shown.length.toLocaleString("en")} of ${cards.length.toLocaleString("en")} lines`];
  parts.push(charged.length ? `${formatUsd(total)} USD` : "no charge");
  if (pending) parts.push(`${pending.toLocaleString("en")} pending`);
  return parts.join(" · ");
}

// Only so many cards are in the page at once, and more as one scrolls: ten thousand would take seconds to rearrange.
function draw(upTo) {
  const more = document.createDocumentFragment();
  for (const card of shown.slice(drawn, upTo)) more.append(card.element);
  list.append(more);
  drawn = Math.min(upTo, shown.length);
}

function update() {
  shown = cards.filter(makeFilter()).sort(makeComparison());
  list.replaceChildren();
  drawn = 0;
  draw(STEP);
  byId("shown").value = describeShown();
  byId("nothing").hidden = shown.length > 0;
}

function open(card) {
  opened = card;
  const element = card.element;
  const facts = element.querySelector(".facts").cloneNode(true);
  facts.querySelector("details").open = true;
  byId("detail-title").textContent = element.querySelector(".line").textContent;
  byId("detail-body").replaceChildren(element.querySelector(".pictures").cloneNode(true), facts);
  Object.assign(byId("detail-body").dataset, { state: card.state, bill: card.bill });
  const at = shown.indexOf(card);
  byId("previous").disabled = at <= 0;
  byId("next").disabled = at < 0 || at === shown.length - 1;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  byId("detail-body").focus();
}

function step(by) {
  const card = shown[shown.indexOf(opened) + by];
  if (card) open(card);
}

list.addEventListener("click", (event) => {
  const target = event.target.closest("summary, .pictures");
  if (!target) return;
  event.preventDefault();
  const element = target.closest(".card");
  open(cards.find((card) => card.element === element));
});

dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
dialog.addEventListener("close", () => opened?.element.querySelector("summary").focus());
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("close").addEventListener("click", () => dialog.close());

let waiting = 0;
controls.addEventListener("input", () => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(update);
});
controls.addEventListener("reset", () => setTimeout(update));
controls.addEventListener("submit", (event) => event.preventDefault());

document.documentElement.classList.add("with-script");
for (const summary of list.querySelectorAll("summary")) summary.setAttribute("aria-haspopup", "dialog");
controls.hidden = false;
new IntersectionObserver((seen) => {
  if (seen.some((entry) => entry.isIntersecting)) draw(drawn + STEP);
}, { rootMargin: "2000px" }).observe(byId("end"));
addEventListener("beforeprint", () => draw(shown.length));
// A browser that comes back to the page fills its form in again.
update();
