// The run as data: what happened in order, and what each process believed at any time.

const run = JSON.parse(document.getElementById("data").textContent);
const NONE = -1;
/** The lane of whoever is on no host of the run, drawn below the others. */
const OUTSIDE = run.hosts;

const lives = new Map(run.lives.map((life) => [life.node, life]));
for (const life of run.lives) {
  life.changes = life.view.map(([at, , about, what]) => ({ at, about, what }));
  life.pauses = [];
}
for (const [at, node, about, what] of run.changes) lives.get(node)?.changes.push({ at, about, what });
for (const [node, from, to] of run.pauses) {
  lives.get(node)?.pauses.push({ from, to: to === NONE ? run.end : to });
}
/** Who had which lock, as it believed itself, and as those who led its group took it to be. */
const locks = run.locks.map(([from, to, node, believed, key, token]) => ({
  from,
  to: to === NONE ? run.end : to,
  lane: lives.get(node)?.host ?? OUTSIDE,
  who: lives.get(node)?.label ?? "?",
  believed: believed === 1,
  text: `${key} #${token}`,
}));
const labelOf = (node) => lives.get(node)?.label ?? "?";
const endOf = (life) => (life.ended === NONE ? run.end : life.ended);
const isThere = (life, t) => life.started <= t && (life.ended === NONE || t < life.ended);

const faults = run.faults.map(([from, to, text, hosts], number) => ({
  type: "fault",
  number,
  at: from,
  end: to === NONE ? run.end : to,
  open: to === NONE,
  name: text.split(" ")[0],
  text,
  hosts: new Set(hosts),
}));

const flights = run.flights.map((f) => {
  const [at, end, from, to, kind, outcome, number, len, sender, receiver, provenance, fate, source, target, note] = f;
  return {
    type: "flight", at, end, kind, outcome, number, len, sender, receiver, provenance, fate, source, target, note,
    from: from === NONE ? OUTSIDE : from,
    to: to === NONE ? OUTSIDE : to,
  };
});

const happenings = run.happenings.map(([at, node, cls, label, detail]) => ({
  type: "happening",
  at,
  end: at,
  node,
  lane: node === NONE ? NONE : lives.get(node)?.host ?? OUTSIDE,
  cls,
  label,
  detail,
}));

const violations = run.violations.map(([at, by, what]) => ({ type: "violation", at, end: at, by, what }));

const usesOutside = flights.some((f) => f.from === OUTSIDE || f.to === OUTSIDE);
const laneCount = run.hosts + (usesOutside ? 1 : 0);
const laneName = (lane) => (lane === OUTSIDE ? "outside" : `host ${lane}`);

/** How long a datagram usually travels, to draw those that never arrive with the same slope. */
const usualTravel = (() => {
  const times = flights.filter((f) => f.end !== NONE).map((f) => f.end - f.at);
  times.sort((a, b) => a - b);
  return times[times.length >> 1] ?? 200_000;
})();

/** Everything that can be stepped to, in order; at the same time as it was recorded, violations last. */
const entries = [...happenings, ...flights, ...violations];
entries.sort((a, b) => a.at - b.at);

const touches = (entry, lane) => {
  if (entry.type === "flight") return entry.from === lane || entry.to === lane;
  return entry.type === "happening" ? entry.lane === lane || entry.lane === NONE : true;
};

/** Returns whom a process listed, and its quorum (0 no gate, 1 there, 2 lost). */
function viewAt(life, t) {
  const listed = new Map();
  let quorum = 0;
  for (const { at, about, what } of life.changes) {
    if (at > t) break;
    if (about === life.node) quorum = what;
    else if (what === 0) listed.delete(about);
    else listed.set(about, what);
  }
  return { listed, quorum };
}

/** How right a view can be, the worst first. */
const VIEWS = ["alone", "misses", "ghost", "suspects", "right"];
const VIEW_TEXTS = {
  right: "lists exactly the members that live",
  suspects: "lists the right ones, and suspects some",
  ghost: "lists somebody who is gone, or is no member",
  misses: "misses somebody who lives",
  alone: "lists nobody",
};

/** Judges one entry of a view against the truth; `what` is 0 if `other` is not listed. */
function judge(life, other, what, t) {
  if (other === life) return "self";
  const there = isThere(other, t) && other.member && life.member;
  // Whoever is saying goodbye may be listed, and need not be.
  const stays = other.leaving === NONE || t < other.leaving;
  if (what === 0) return there && stays ? "misses" : "absent";
  if (!there) return "ghost";
  return what === 2 ? "suspect" : "right";
}

function judgeAll(life, listed, t) {
  if (listed.size === 0) return run.lives.some((other) => judge(life, other, 0, t) === "misses") ? "alone" : "right";
  const found = new Set(run.lives.map((other) => judge(life, other, listed.get(other.node) ?? 0, t)));
  for (const worst of ["misses", "ghost", "suspect"]) {
    if (found.has(worst)) return worst === "suspect" ? "suspects" : worst;
  }
  return "right";
}

/** Returns the stretches of a process's life in which its view was as right, and its quorum the same. */
function stretches(life) {
  const times = new Set([life.started, ...life.changes.map((change) => change.at)]);
  for (const other of run.lives) for (const t of [other.started, other.leaving, other.ended]) times.add(t);
  const sorted = [...times].filter((t) => t >= life.started && t <= endOf(life)).sort((a, b) => a - b);
  const found = [];
  const listed = new Map();
  let quorum = 0;
  let next = 0;
  for (const t of sorted) {
    for (; next < life.changes.length && life.changes[next].at <= t; next++) {
      const { about, what } = life.changes[next];
      if (about === life.node) quorum = what;
      else if (what === 0) listed.delete(about);
      else listed.set(about, what);
    }
    const view = judgeAll(life, listed, t);
    const last = found[found.length - 1];
    if (last && last.view === view && last.quorum === quorum) continue;
    if (last) last.to = t;
    found.push({ from: t, to: endOf(life), view, quorum });
  }
  return found;
}
for (const life of run.lives) life.stretches = stretches(life);

/** Writes a time, with as many digits as a step of `step` nanoseconds needs. */
function timeText(t, step = 1_000_000) {
  const digits = Math.min(9, Math.max(0, Math.ceil(9 - Math.log10(Math.max(1, step)) - 1e-9)));
  return `${(t / 1e9).toFixed(digits)} s`;
}

function spanText(ns) {
  if (ns < 1e6) return `${+(ns / 1e3).toFixed(1)} µs`;
  return ns < 1e9 ? `${+(ns / 1e6).toFixed(2)} ms` : `${+(ns / 1e9).toFixed(3)} s`;
}

/** What a flight is called: its kind and length. */
const flightText = (f) => `${run.kinds[f.kind]} ${f.len} B`;
const endText = (node, lane) => (node === NONE ? laneName(lane) : labelOf(node));

/** Returns whom an entry is about. */
function who(entry) {
  if (entry.type === "happening" && entry.node !== NONE) return labelOf(entry.node);
  if (entry.type !== "flight") return "all";
  const from = entry.from === OUTSIDE ? "outside" : endText(entry.sender, entry.from);
  return `${from} → ${endText(entry.receiver, entry.to)}`;
}

/** Returns one line about an entry. */
function line(entry) {
  switch (entry.type) {
    case "flight": {
      const outcome = run.outcomes[entry.outcome];
      return outcome === "delivered" ? flightText(entry) : `${flightText(entry)}, ${outcome}`;
    }
    case "happening":
      return entry.detail === "" ? entry.label : `${entry.label}: ${entry.detail}`;
    case "violation":
      return `VIOLATION, found by ${entry.by}: ${entry.what}`;
    default:
      return entry.text;
  }
}

/** Returns everything there is to say about an entry. */
function particulars(entry) {
  const at = timeText(entry.at, 1_000);
  if (entry.type === "happening") {
    return [["at", at], ["process", entry.node === NONE ? "all" : labelOf(entry.node)], ["particulars", entry.detail || "none"]];
  }
  if (entry.type === "violation") return [["at", at], ["found by", entry.by], ["what", entry.what]];
  if (entry.type === "fault") {
    return [
      ["from", at],
      ["to", entry.open ? "goes on" : timeText(entry.end, 1_000)],
      ["lasting", spanText(entry.end - entry.at)],
      ["particulars", entry.text],
    ];
  }
  const rows = [
    ["number", `${entry.number} (copies have the same)`],
    ["from", `${entry.sender === NONE ? "nobody of this run" : labelOf(entry.sender)}, address ${entry.source}`],
    ["to", `${endText(entry.receiver, entry.to)}, address ${entry.target}`],
    ["sent", at],
    ["outcome", run.outcomes[entry.outcome]],
    ["origin", run.provenances[entry.provenance]],
    ["fate", run.fates[entry.fate]],
  ];
  if (entry.end !== NONE) rows.push(["arrived", `${timeText(entry.end, 1_000)}, after ${spanText(entry.end - entry.at)}`]);
  if (entry.note) rows.push(["process", entry.note]);
  return rows;
}

/** What the filter looks in. */
const haystack = (entry) => {
  if (entry.text_ === undefined) {
    const more = entry.type === "flight" ? `${run.outcomes[entry.outcome]} ${entry.source} ${entry.target} ${entry.note}` : "";
    entry.text_ = `${who(entry)} ${line(entry)} ${more}`.toLowerCase();
  }
  return entry.text_;
};
