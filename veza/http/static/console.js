// Keeps a page as it stands now. The server sends the rows that changed, drawn; here they take their places.

"use strict";

const AGAIN_MS = 5000; // after which what was refused is asked for again
const TWICE_MS = 1000; // within which a form sent again is a double click

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

// What was written in a form that was refused is theirs, as if they had just typed it.
for (const field of main.querySelectorAll("[data-kept]")) {
  const { value } = field;
  field.defaultValue = "";
  field.value = value;
}

// The page anew, by its own address: that of a form that was refused would have it sent again.
const again = () => window.location.replace(main.dataset.at);

const isWritten = (element) =>
  [...element.querySelectorAll("input:not([type=hidden]), textarea")].some((field) => field.value !== field.defaultValue);

// Where somebody is: typing, pressing or about to press, or with a form unfolded. That part is left to them.
const isInUse = (element) =>
  element.contains(document.activeElement) ||
  element.matches(":active, details[open]") ||
  element.querySelector("details[open]") !== null ||
  isWritten(element);

// Whether all of a row is as it was drawn.
const replace = (before, after) => {
  if (!isInUse(before)) {
    before.replaceWith(after);
    return true;
  }
  const [parts, fresh] = [[...before.children], [...after.children]];
  for (let at = 0; at < Math.min(parts.length, fresh.length); at += 1) {
    if (parts[at].outerHTML !== fresh[at].outerHTML && !isInUse(parts[at])) {
      parts[at].replaceWith(fresh[at]);
    }
  }
  return false;
};

// What was left to somebody, by its row: how it is drawn now, or null where it is gone. Seen to once they are elsewhere.
const waiting = new Map();

const draw = (row, html) => {
  const after = html === null ? null : drawn(html);
  waiting.delete(row);
  row.classList.toggle("gone", after === null);
  if (after === null) {
    if (isInUse(row)) {
      waiting.set(row, null);
    } else {
      row.remove();
    }
  } else if (row.outerHTML !== after.outerHTML && !replace(row, after)) {
    waiting.set(row, html);
  }
};

setInterval(() => {
  for (const [row, html] of [...waiting]) {
    draw(row, html);
  }
}, 250); // in no event of theirs: what is pressed must not be replaced between the finger's going down and up

const rowsOf = (region) => new Map([...region.children].map((row) => [row.dataset.key, row]));

const apply = (region, { rows, order }) => {
  const places = rowsOf(region);
  for (const [key, html] of Object.entries(rows)) {
    if (places.has(key)) {
      draw(places.get(key), html);
    } else {
      region.append(drawn(html));
    }
  }
  if (order === undefined) {
    return;
  }
  for (const [key, row] of rowsOf(region)) {
    if (!order.includes(key)) {
      draw(row, null);
    }
  }
  const now = rowsOf(region);
  let last = null;
  const next = () => {
    let place = last === null ? region.firstElementChild : last.nextElementSibling;
    while (place?.matches(".gone")) {
      place = place.nextElementSibling;
    }
    return place;
  };
  for (const key of order) {
    const row = now.get(key);
    if (row.contains(document.activeElement)) {
      while (next() !== row) {
        region.append(next()); // what is before it makes way: who is moved loses the focus
      }
    } else if (row !== next()) {
      region.insertBefore(row, next());
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

// Its reader is out, or what it shows is gone. Words that were written stay: sent, they are kept while one signs in.
const leave = () => {
  if (isWritten(main)) {
    tell("over");
  } else {
    again();
  }
};

let events = null;
let asking = null;

const rest = () => {
  clearTimeout(asking);
  events?.close();
  [events, asking] = [null, null];
};

const watch = () => {
  rest();
  if (document.hidden) {
    return; // a page in the back of the browser costs the server nothing
  }
  events = new EventSource(main.dataset.live);
  events.addEventListener("open", () => tell("live"));
  events.addEventListener("error", () => {
    tell("lost");
    if (events?.readyState === EventSource.CLOSED) {
      asking = setTimeout(ask, AGAIN_MS); // the browser asks again by itself where it was not refused
    }
  });
  events.addEventListener("changes", (event) => {
    for (const [name, changes] of Object.entries(JSON.parse(event.data))) {
      const region = document.getElementById(`region-${name}`);
      if (region !== null) {
        region.removeAttribute("data-unknown");
        apply(region, changes);
      }
    }
  });
  events.addEventListener("away", () => tell("away"));
  events.addEventListener("back", () => tell("live"));
  events.addEventListener("over", () => {
    rest();
    leave();
  });
};

// Who was refused is led to the page that says why. What passes by itself is no reason: a proxy in front of a process
// that is starting would have its own page stand here for good, in place of ours and what was written in it.
const ask = async () => {
  const answer = await fetch(main.dataset.at, { method: "HEAD", cache: "no-store" }).catch(() => null);
  if (answer !== null && (answer.redirected || (answer.status >= 400 && answer.status < 500 && answer.status !== 429))) {
    leave();
  } else {
    watch();
  }
};

watch();

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    tell("still");
  }
  watch();
});
window.addEventListener("pagehide", rest);
window.addEventListener("pageshow", (event) => {
  if (event.persisted) {
    again(); // as it was when it was left, and whoever comes back to it may have signed out
  }
});

let sentAt = -Infinity;
document.addEventListener("submit", (event) => {
  if (event.timeStamp - sentAt < TWICE_MS) {
    event.preventDefault();
  } else {
    sentAt = event.timeStamp;
  }
});
