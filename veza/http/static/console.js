// Keeps a page as it stands now. The server sends the rows that changed, drawn; here they take their places.

"use strict";

const main = document.querySelector("main[data-live]");
const pulse = main.querySelector(".pulse");

// Markup comes from our own server alone, which has escaped all text in it.
const ours = window.trustedTypes
  ? window.trustedTypes.createPolicy("veza", { createHTML: (html) => html })
  : { createHTML: (html) => html };

const drawn = (html) => {
  const template = document.createElement("template");
  template.innerHTML = ours.createHTML(html);
  return template.content.firstElementChild;
};

// Where somebody is: typing, about to press, or with a form unfolded. That part is left to them.
const isInUse = (element) =>
  element.contains(document.activeElement) ||
  element.matches("details[open]") ||
  element.querySelector("details[open]") !== null ||
  [...element.querySelectorAll("input:not([type=hidden]), textarea")].some((field) => field.value !== field.defaultValue);

const replace = (before, after) => {
  if (!isInUse(before)) {
    before.replaceWith(after);
    return;
  }
  const [parts, fresh] = [[...before.children], [...after.children]];
  for (let at = 0; at < Math.min(parts.length, fresh.length); at += 1) {
    if (parts[at].outerHTML !== fresh[at].outerHTML && !isInUse(parts[at])) {
      parts[at].replaceWith(fresh[at]);
    }
  }
};

const apply = (region, { rows, order }) => {
  const places = new Map([...region.children].map((row) => [row.dataset.key, row]));
  for (const [key, html] of Object.entries(rows)) {
    const [before, after] = [places.get(key), drawn(html)];
    if (before === undefined) {
      region.append(after);
    } else if (before.outerHTML !== after.outerHTML) {
      replace(before, after);
    }
  }
  if (order === undefined) {
    return;
  }
  const now = new Map([...region.children].map((row) => [row.dataset.key, row]));
  for (const [key, row] of now) {
    if (!order.includes(key)) {
      row.remove();
    }
  }
  let last = null;
  for (const key of order) {
    const row = now.get(key);
    const place = last === null ? region.firstElementChild : last.nextElementSibling;
    if (row !== place) {
      region.insertBefore(row, place); // only what is out of its place: whoever is in a row keeps it
    }
    last = row;
  }
};

const tell = (state) => {
  if (pulse.dataset.state !== state) {
    pulse.dataset.state = state;
    pulse.textContent = pulse.dataset[state];
  }
};

const watch = () => {
  const events = new EventSource(main.dataset.live);
  events.addEventListener("open", () => tell("live"));
  events.addEventListener("error", () => {
    tell("lost");
    if (events.readyState === EventSource.CLOSED) {
      setTimeout(() => window.location.reload(), 5000); // refused: the page that comes says why
    }
  });
  events.addEventListener("changes", (event) => {
    for (const [name, changes] of Object.entries(JSON.parse(event.data))) {
      const region = document.getElementById(`region-${name}`);
      if (region !== null) {
        apply(region, changes);
      }
    }
  });
  events.addEventListener("away", () => tell("away"));
  events.addEventListener("back", () => tell("live"));
  events.addEventListener("over", () => {
    events.close();
    window.location.reload();
  });
  return events;
};

let events = watch();

// A page in the back of the browser costs the server nothing, and one that is come back to is current.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    events.close();
    tell("still");
  } else {
    events = watch();
  }
});
window.addEventListener("pagehide", () => events.close());
window.addEventListener("pageshow", (event) => {
  if (event.persisted) {
    events = watch();
  }
});
