// What stands beside the timeline. All texts of the run go in as text, never as markup.

const $ = (id) => document.getElementById(id);

/** Makes an element with a class, a text, and children. */
function make(tag, className = "", text = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== "") element.textContent = text;
  element.append(...children);
  return element;
}

function showHeader() {
  document.title = run.title || "A run of quorate";
  $("title").textContent = document.title;
  const fact = (name, value) => make("span", "", `${name} `, make("b", "", String(value)));
  $("facts").append(
    fact("seed", run.seed), fact("trace hash", run.traceHash), fact("lasted", timeText(run.end)),
    fact("processes", run.lives.length), fact("datagrams", flights.length), fact("happenings", happenings.length),
  );
  for (const violation of violations) {
    $("verdict").append(make("p", "", `Violation at ${timeText(violation.at)}, found by ${violation.by}: ${violation.what}`));
  }
  const out = Object.entries(run.leftOut).filter(([, count]) => count > 0).map(([what, count]) => `the first ${count} ${what}`);
  if (out.length > 0) $("verdict").append(make("p", "left-out", `Left out for want of room: ${out.join(", ")}.`));
  $("jump").hidden = violations.length === 0;
  $("schedule").textContent = run.schedule;
  $("source").hidden = run.schedule === "";
  $("lane").append(new Option("all hosts", NONE));
  for (let lane = 0; lane < laneCount; lane++) $("lane").append(new Option(laneName(lane), lane));
  for (const view of [...VIEWS].reverse()) {
    const swatch = make("i");
    swatch.style.background = `var(--view-${view})`;
    $("beliefs").append(make("li", "", "", swatch, VIEW_TEXTS[view]));
  }
}

/** The legend is the filter: a group of switches for each table of names, those that occur. */
function showLegend(colours, hidden, changed) {
  $("legend").replaceChildren();
  const group = (title, key, names, count, swatch) => {
    const present = names.map((name, number) => ({ name, number, count: count(number) })).filter((item) => item.count > 0);
    if (present.length === 0) return;
    const set = hidden[key];
    const all = make("button", "all", title);
    all.title = "Show all of these, or none";
    all.onclick = () => {
      const none = present.every(({ number }) => !set.has(number));
      present.forEach(({ number }) => (none ? set.add(number) : set.delete(number)));
      changed();
    };
    const buttons = present.map(({ name, number, count }) => {
      const button = make("button", "", "", ...swatch(name), make("span", "", name), make("small", "", String(count)));
      button.setAttribute("aria-pressed", String(!set.has(number)));
      button.onclick = () => {
        if (!set.delete(number)) set.add(number);
        changed();
      };
      return button;
    });
    $("legend").append(make("span", "", "", all, ...buttons));
  };
  const tally = (list, key) => {
    const counts = [];
    for (const item of list) counts[item[key]] = (counts[item[key]] ?? 0) + 1;
    return (number) => counts[number] ?? 0;
  };
  group("Datagrams", "outcomes", run.outcomes, tally(flights, "outcome"), (name) => {
    const stripe = make("i");
    stripe.style.background = colours[name];
    return [stripe];
  });
  group("Kinds", "kinds", run.kinds, tally(flights, "kind"), () => []);
  group("Happenings", "classes", run.classes, tally(happenings, "cls"), (name) => {
    const canvas = make("canvas");
    canvas.width = canvas.height = 24;
    const ctx = canvas.getContext("2d");
    ctx.scale(2, 2);
    sign(ctx, name, 6, 6, 4.5, colours);
    return [canvas];
  });
}

const CELLS = { self: "·", right: "●", suspect: "◐", misses: "○", ghost: "✝", absent: "" };
const CELL_TEXTS = {
  self: "itself", right: "lists it", suspect: "lists it, and suspects it", misses: "does not list it, though it lives",
  ghost: "lists it, though it is gone or no member", absent: "does not list it, rightly",
};
/** More processes than these have no room in a table. */
const MAX_TABLE = 16;

/** Shows who lists whom at a time. */
function showViews(t) {
  $("now").textContent = `Views at ${timeText(t, 1_000)}`;
  const rows = run.lives.filter((life) => isThere(life, t)).map((life) => ({ life, ...viewAt(life, t) }));
  rows.sort((a, b) => a.life.host - b.life.host || a.life.node - b.life.node);
  const listed = new Set(rows.flatMap((row) => [...row.listed.keys()]));
  const columns = run.lives.filter((life) => isThere(life, t) || listed.has(life.node));
  columns.sort((a, b) => a.host - b.host || a.node - b.node);
  if (rows.length === 0) return $("views").replaceChildren(make("p", "", "No process is running."));
  const wide = columns.length > MAX_TABLE;
  const head = make("tr", "", "", make("th", "", "lists →"));
  if (!wide) for (const { label, ended } of columns) head.append(make("th", ended !== NONE && ended <= t ? "down" : "", label));
  const table = make("table", "", "", make("thead", "", "", head));
  const body = table.appendChild(make("tbody"));
  for (const { life, listed, quorum } of rows) {
    const tr = body.appendChild(make("tr", "", "", make("th", "", life.label)));
    const judged = columns.map((other) => [other, judge(life, other, listed.get(other.node) ?? 0, t)]);
    if (!wide) {
      for (const [other, verdict] of judged) {
        const td = tr.appendChild(make("td", verdict, CELLS[verdict]));
        td.title = `${life.label}: ${other.label}: ${CELL_TEXTS[verdict]}`;
      }
    }
    const notes = [];
    if (wide) {
      notes.push(`lists ${listed.size}`);
      for (const wrong of ["misses", "ghost", "suspect"]) {
        const those = judged.filter(([, verdict]) => verdict === wrong).map(([other]) => other.label);
        if (those.length > 0) notes.push(`${wrong} ${those.slice(0, 6).join(" ")}${those.length > 6 ? " …" : ""}`);
      }
    }
    if (quorum > 0) notes.push(quorum === 1 ? "quorum" : "no quorum");
    if (life.observer) notes.push("observer");
    if (!life.member) notes.push("stranger");
    if (life.pauses.some((pause) => pause.from <= t && t < pause.to)) notes.push("paused");
    if (life.leaving !== NONE && life.leaving <= t) notes.push("leaving");
    tr.append(make("td", quorum === 2 ? "note bad" : "note", notes.join(", ")));
    tr.firstChild.title = life.name ? `${life.name}, ${life.id}` : life.id;
  }
  const had = (believed) => {
    const there = locks.filter((lock) => lock.believed === believed && lock.from <= t && t < lock.to);
    return there.length ? there.map((lock) => `${lock.text} (${lock.who})`).join("; ") : "none";
  };
  const held = run.locks.length ? [`Locks believed in: ${had(true)}`, `Locks as leaders see them: ${had(false)}`] : [];
  const going = faults.filter((fault) => fault.at <= t && (t < fault.end || fault.open)).map((fault) => fault.text);
  const key = "● lists  ◐ suspects  ○ misses  ✝ lists a dead one";
  $("views").replaceChildren(table, make("p", "", wide ? "" : key), ...held.map((text) => make("p", "", text)), make("p", "", going.length ? `Faults: ${going.join("; ")}` : "No fault."));
}

function showParticulars(entry) {
  $("particulars").hidden = entry === null;
  if (entry === null) return;
  const title = entry.type === "flight" ? flightText(entry) : entry.type === "violation" ? "Violation" : entry.label ?? entry.name;
  $("what").textContent = title;
  $("rows").replaceChildren(...particulars(entry).flatMap(([name, value]) => [make("dt", "", name), make("dd", "", value)]));
}

const ROW = 20;

/** A list of which only what can be seen is there. */
class Log {
  constructor(choose) {
    this.box = $("log");
    this.rows = $("logrows");
    this.list = [];
    this.box.addEventListener("scroll", () => this.draw());
    this.rows.addEventListener("click", (event) => {
      const row = event.target.closest(".entry");
      if (row) choose(this.list[Number(row.dataset.number)]);
    });
  }

  show(list, selected, cursor, colours) {
    Object.assign(this, { list, selected, colours });
    this.rows.style.height = `${list.length * ROW}px`;
    const chosen = selected ? list.indexOf(selected) : -1;
    const at = chosen >= 0 ? chosen : list.findIndex((entry) => entry.at >= cursor);
    const place = (at < 0 ? list.length : at) * ROW;
    const { scrollTop, clientHeight } = this.box;
    if (place < scrollTop || place > scrollTop + clientHeight - ROW) this.box.scrollTop = place - clientHeight / 2;
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - 2);
    const last = Math.min(this.list.length, first + Math.ceil(this.box.clientHeight / ROW) + 4);
    const rows = [];
    for (let number = first; number < last; number++) rows.push(this.row(this.list[number], number));
    this.rows.replaceChildren(...rows);
  }

  row(entry, number) {
    const swatch = make("i");
    const name = entry.type === "flight" ? run.outcomes[entry.outcome] : entry.type === "violation" ? "bad" : run.classes[entry.cls];
    swatch.style.background = this.colours[name];
    const row = make("div", entry === this.selected ? "entry chosen" : "entry", "",
      make("time", "", (entry.at / 1e9).toFixed(4)), swatch, make("b", "", who(entry)), make("span", "", line(entry)));
    row.style.top = `${number * ROW}px`;
    row.dataset.number = String(number);
    return row;
  }
}
