// What is seen and chosen, and how people change it.

const HIDDEN = { outcomes: new Set(), kinds: new Set(), classes: new Set() };
const SHORTEST = 2_000;
const state = {
  from: 0,
  to: run.end,
  cursor: violations[0]?.at ?? faults[0]?.at ?? run.end / 2,
  selected: violations[0] ?? null,
  hovered: null,
  lane: NONE,
  search: "",
  shown: entries,
};

let colours = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["back", "sheet", "line", "grid", "text", "dim", "accent", "chosen", "bad", "process", "network", "host", "clock", "names", "held", "leased"];
  const tables = [...run.outcomes, ...run.classes, ...VIEWS.map((view) => `view-${view}`)];
  colours = Object.fromEntries([...names, ...tables].map((name) => [name, style.getPropertyValue(`--${name.replace(" ", "-")}`).trim()]));
}

const picture = new Picture($("picture"));
const log = new Log((entry) => choose(entry));

/** Works out what is shown: what is not shown is neither drawn, nor listed, nor stepped to. */
function filter() {
  const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  const passes = (entry) => {
    if (entry.type === "violation") return true;
    if (entry.type === "flight" && (HIDDEN.outcomes.has(entry.outcome) || HIDDEN.kinds.has(entry.kind))) return false;
    if (entry.type === "happening" && HIDDEN.classes.has(entry.cls)) return false;
    if (state.lane !== NONE && !touches(entry, state.lane)) return false;
    return words.every((word) => haystack(entry).includes(word));
  };
  state.shown = entries.filter(passes);
  $("count").textContent = `${state.shown.length} of ${entries.length} shown`;
  showLegend(colours, HIDDEN, filter);
  show();
}

let waiting = false;
/** Draws everything anew, once before the next frame. */
function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    const box = $("scroll");
    picture.lay(box.clientWidth, box.clientHeight);
    picture.draw(state, colours);
    drawOverview();
  });
}

/** Shows the cursor and what is chosen everywhere. */
function show() {
  showViews(state.cursor);
  showParticulars(state.selected);
  log.show(state.shown, state.selected, state.cursor, colours);
  draw();
}

function drawOverview() {
  const canvas = $("overview");
  const scale = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const ctx = canvas.getContext("2d");
  ctx.scale(scale, scale);
  ctx.fillStyle = colours.sheet;
  ctx.fillRect(0, 0, width, height);
  const span = Math.max(run.end, 1);
  const at = (t) => GUTTER + (t / span) * (width - GUTTER);
  const [common, rare] = [[], []];
  for (const flight of flights) {
    const x = Math.floor(at(flight.at) / 2);
    const counts = run.outcomes[flight.outcome] === "delivered" ? common : rare;
    counts[x] = (counts[x] ?? 0) + 1;
  }
  const most = common.concat(rare).reduce((a, b) => Math.max(a, b ?? 0), 1);
  for (const [counts, colour] of [[common, colours.delivered], [rare, colours.lost]]) {
    ctx.fillStyle = colour;
    counts.forEach((count, x) => {
      const tall = Math.sqrt(count / most) * (height - 12);
      ctx.fillRect(x * 2, height - tall, 2, tall);
    });
  }
  for (const fault of faults) {
    ctx.fillStyle = colours[familyOf(fault.name)];
    ctx.fillRect(at(fault.at), 1 + (fault.row % 4) * 2.5, Math.max(2, at(fault.end) - at(fault.at)), 2);
  }
  ctx.fillStyle = colours.bad;
  for (const violation of violations) ctx.fillRect(at(violation.at) - 1.5, 0, 3, height);
  const [a, b] = [Math.max(GUTTER, at(state.from)), Math.min(width, at(state.to))];
  ctx.globalAlpha = 0.16;
  ctx.fillStyle = colours.accent;
  ctx.fillRect(a, 0, Math.max(2, b - a), height);
  ctx.globalAlpha = 1;
  ctx.strokeStyle = colours.accent;
  ctx.lineWidth = 2;
  ctx.strokeRect(a + 1, 1, Math.max(2, b - a - 2), height - 2);
  ctx.fillRect(at(state.cursor) - 0.5, 0, 1, height);
  ctx.fillStyle = colours.dim;
  ctx.font = "11px system-ui, sans-serif";
  ctx.textBaseline = "middle";
  ctx.fillText("whole run", 10, height / 2);
}

/** Changes what is in sight; a little may be seen beyond both ends. */
function look(from, to) {
  const span = Math.min(Math.max(to - from, SHORTEST), Math.max(run.end, SHORTEST) * 1.1);
  const slack = span * 0.5;
  state.from = Math.min(Math.max(from, -slack), Math.max(run.end + slack - span, -slack));
  state.to = state.from + span;
  draw();
}

function zoom(factor, around = (state.from + state.to) / 2) {
  look(around - (around - state.from) * factor, around + (state.to - around) * factor);
}

/** Zooms around the cursor if it is in sight. */
const zoomKeys = (factor) => zoom(factor, state.cursor >= state.from && state.cursor <= state.to ? state.cursor : undefined);

function pan(share) {
  const by = (state.to - state.from) * share;
  look(state.from + by, state.to + by);
}

/** Moves only as far as it takes to see a time. */
function bringIntoSight(t) {
  const [span, edge] = [state.to - state.from, (state.to - state.from) * 0.06];
  if (t < state.from + edge || t > state.to - edge) look(t - span / 2, t + span / 2);
}

/** Scrolls to the lane of an entry, where there are more lanes than fit. */
function bringLaneIntoSight(entry) {
  const y = picture.lanes?.[entry.type === "flight" ? entry.from : entry.lane];
  const box = $("scroll");
  if (y !== undefined && (y < box.scrollTop + 30 || y > box.scrollTop + box.clientHeight - 30)) {
    box.scrollTop = y - box.clientHeight / 2;
  }
}

function choose(entry) {
  state.selected = entry;
  state.cursor = entry.at;
  bringIntoSight(entry.at);
  bringLaneIntoSight(entry);
  show();
}

/** Goes to the next (1) or previous (-1) entry that holds. */
function step(direction, holds = () => true) {
  const { shown } = state;
  let at = state.selected ? shown.indexOf(state.selected) : -1;
  if (at < 0) {
    at = shown.findIndex((entry) => entry.at > state.cursor || (entry.at === state.cursor && direction > 0));
    if (at < 0) at = shown.length;
    if (direction > 0) at--;
  }
  for (at += direction; at >= 0 && at < shown.length; at += direction) {
    if (holds(shown[at])) return choose(shown[at]);
  }
}

/** On the host of what is chosen: of a datagram, the one that sent it. */
function stepOnHost(direction) {
  const { selected } = state;
  const lane = selected?.type === "flight" ? selected.from : selected?.lane ?? NONE;
  step(direction, (entry) => (lane === NONE ? true : entry.lane === lane || (entry.type === "flight" && touches(entry, lane))));
}

function stepFault(direction) {
  const times = faults.flatMap((fault) => [[fault.at, fault], [fault.end, fault]]).sort((a, b) => a[0] - b[0]);
  const found = direction > 0 ? times.find(([t]) => t > state.cursor) : times.reverse().find(([t]) => t < state.cursor);
  if (!found) return;
  [state.cursor, state.selected] = found;
  bringIntoSight(state.cursor);
  show();
}

function jumpToViolation() {
  if (violations.length === 0) return;
  const next = violations[(violations.indexOf(state.selected) + 1) % violations.length];
  look(next.at - 1e9, next.at + 0.5e9);
  choose(next);
}

const ACTIONS = {
  zoomIn: () => zoomKeys(1 / 2),
  zoomOut: () => zoomKeys(2),
  // A little more than that: what is at the very end would be hard to see.
  whole: () => look(0, run.end * 1.02),
  previous: () => step(-1),
  next: () => step(1),
  previousOnHost: () => stepOnHost(-1),
  nextOnHost: () => stepOnHost(1),
  previousFault: () => stepFault(-1),
  nextFault: () => stepFault(1),
  left: () => pan(-0.25),
  right: () => pan(0.25),
  violation: jumpToViolation,
  search: () => $("search").focus(),
  help: () => $("help").showModal(),
  clear: () => {
    state.selected = null;
    show();
  },
};

/** Keys, what they do, and how that is said in the help. */
const KEYS = [
  [["ArrowRight"], "next", "→", "next thing that is shown"],
  [["ArrowLeft"], "previous", "←", "previous one"],
  [["Shift+ArrowRight"], "nextOnHost", "Shift →", "next one on the same host"],
  [["Shift+ArrowLeft"], "previousOnHost", "Shift ←", "previous one on the same host"],
  [["+", "="], "zoomIn", "+", "zoom in (also the wheel, and a double click)"],
  [["-", "_"], "zoomOut", "−", "zoom out"],
  [["0"], "whole", "0", "the whole run"],
  [["a", ","], "left", "A", "move left (also drag, and Shift with the wheel)"],
  [["d", "."], "right", "D", "move right"],
  [["f"], "nextFault", "F", "next begin or end of a fault"],
  [["Shift+F"], "previousFault", "Shift F", "previous one"],
  [["v"], "violation", "V", "the violation"],
  [["/"], "search", "/", "filter"],
  [["Escape"], "clear", "Esc", "choose nothing"],
  [["?", "Shift+?"], "help", "?", "this help"],
];

function listen() {
  for (const [, , key, text] of KEYS) $("keys").append(make("tr", "", "", make("td", "", "", make("kbd", "", key)), make("td", "", text)));
  for (const button of document.querySelectorAll("[data-do]")) button.onclick = () => ACTIONS[button.dataset.do]();
  addEventListener("keydown", (event) => {
    if (event.target.matches("input, select") && event.key !== "Escape") return;
    if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
    // Letters and arrows tell Shift apart; of signs the keyboard decides.
    const name = event.shiftKey && /^(Arrow|[A-Z?]$)/.test(event.key) ? `Shift+${event.key}` : event.key;
    const found = KEYS.find(([names]) => names.includes(name));
    if (!found) return;
    event.preventDefault();
    if (event.key === "Escape") event.target.blur();
    ACTIONS[found[1]]();
  });
  $("search").addEventListener("input", (event) => {
    state.search = event.target.value;
    filter();
  });
  $("lane").addEventListener("change", (event) => {
    state.lane = Number(event.target.value);
    filter();
  });
  new ResizeObserver(draw).observe($("scroll"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColours();
    filter();
  });
  listenToPicture($("picture"));
  listenToOverview($("overview"));
}

function listenToPicture(canvas) {
  let held = null;
  canvas.addEventListener("wheel", (event) => {
    // Over the names of the lanes the wheel scrolls, where there are more than fit.
    if (event.offsetX < GUTTER) return;
    event.preventDefault();
    const across = Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : event.shiftKey ? event.deltaY : 0;
    if (across !== 0) return pan(across / 800);
    zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 200), picture.timeAt(event.offsetX, state));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held = { x: event.offsetX, from: state.from, to: state.to, moved: false };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return hover(event);
    const by = event.offsetX - held.x;
    held.moved ||= Math.abs(by) > 3;
    if (!held.moved) return;
    canvas.classList.add("moving");
    const perPixel = (held.to - held.from) / (picture.right - picture.left);
    look(held.from - by * perPixel, held.to - by * perPixel);
  });
  canvas.addEventListener("pointerup", (event) => {
    canvas.classList.remove("moving");
    const clicked = held && !held.moved;
    held = null;
    if (!clicked) return;
    const found = picture.find(event.offsetX, event.offsetY);
    const inside = (t) => Math.min(run.end, Math.max(0, t));
    state.selected = found;
    // A fault is long: the cursor goes to where it was clicked.
    state.cursor = found && found.type !== "fault" ? found.at : inside(picture.timeAt(event.offsetX, state));
    show();
  });
  canvas.addEventListener("pointercancel", () => (held = null));
  canvas.addEventListener("dblclick", (event) => zoom(1 / 4, picture.timeAt(event.offsetX, state)));
  canvas.addEventListener("pointerleave", () => ($("tip").hidden = true));
}

function hover(event) {
  const found = picture.find(event.offsetX, event.offsetY);
  if (found !== state.hovered) {
    state.hovered = found;
    draw();
  }
  const tip = $("tip");
  tip.hidden = found === null;
  if (found === null) return;
  tip.textContent = `${timeText(found.at, 10_000)}  ${who(found)}\n${line(found)}`;
  const area = $("time").getBoundingClientRect();
  const [x, y] = [event.clientX - area.left + 14, event.clientY - area.top + 14];
  tip.style.left = `${Math.min(x, area.width - tip.offsetWidth - 6)}px`;
  tip.style.top = `${Math.min(y, area.height - tip.offsetHeight - 6)}px`;
}

function listenToOverview(canvas) {
  const go = (event) => {
    const t = ((event.offsetX - GUTTER) / (canvas.clientWidth - GUTTER)) * run.end;
    const half = (state.to - state.from) / 2;
    look(t - half, t + half);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    go(event);
  });
  canvas.addEventListener("pointermove", (event) => event.buttons && go(event));
}

readColours();
showHeader();
listen();
filter();
ACTIONS.whole();
