// The timeline: where everything is, the arrows, the faults, and what is under the pointer.

const GUTTER = 74;
const AXIS = 24;
/** More arrows than these in sight are shown as bars, apart from the uncommon ones if those are few. */
const MAX_ARROWS = 1_200;
const MAX_UNCOMMON = 500;
const MAX_LABELLED = 60;
/** Where on its way something ends that never arrives: not on half of it, where other lanes are. */
const LOST_AT = 0.38;
/** Where on an arrow its label may stand. */
const LABEL_AT = [0.3, 0.7, 0.5, 0.2, 0.8];
const FAMILIES = {
  host: ["rebind", "crash", "blackout", "pause", "slow", "leave", "rolling-update", "surge", "stranger", "rotate", "unread"],
  clock: ["drift", "jump", "freeze", "wall"],
  names: ["dns"],
};
const familyOf = (name) => Object.keys(FAMILIES).find((family) => FAMILIES[family].includes(name)) ?? "network";

/** Packs faults into rows so that none overlap; the same at every zoom. */
const faultRows = (() => {
  const rows = [];
  for (const fault of faults) {
    let row = rows.findIndex((end) => end <= fault.at);
    if (row < 0) row = rows.push(0) - 1;
    rows[row] = Math.max(fault.end, fault.at + (run.end * 3) / 100);
    fault.row = row;
  }
  return rows.length;
})();

class Picture {
  constructor(canvas) {
    this.canvas = canvas;
    this.ctx = canvas.getContext("2d");
    this.hits = { arrows: [], groups: [], bands: [] };
  }

  /** Works out where everything goes in `width` by at least `height` pixels. */
  lay(width, height) {
    const rowHeight = faultRows === 0 ? 0 : Math.max(7, Math.min(18, 150 / faultRows));
    const top = AXIS + faultRows * rowHeight + (faultRows ? 6 : 0);
    const laneHeight = Math.max(58, Math.min(190, (height - top - 8) / Math.max(1, laneCount)));
    this.width = width;
    this.height = Math.max(height, top + laneHeight * laneCount + 8);
    Object.assign(this, { rowHeight, top, laneHeight });
    this.left = GUTTER;
    this.right = width;
    this.lanes = Array.from({ length: laneCount }, (_, lane) => top + laneHeight * (lane + 0.62));
    const scale = devicePixelRatio || 1;
    const [w, h] = [Math.round(width * scale), Math.round(this.height * scale)];
    if (this.canvas.width !== w || this.canvas.height !== h) {
      this.canvas.width = w;
      this.canvas.height = h;
      this.canvas.style.height = `${this.height}px`;
    }
    this.ctx.setTransform(scale, 0, 0, scale, 0, 0);
  }

  timeAt(x, state) {
    return state.from + ((x - this.left) / (this.right - this.left)) * (state.to - state.from);
  }

  draw(state, colours) {
    const { ctx } = this;
    const scale = (this.right - this.left) / (state.to - state.from);
    const at = (t) => this.left + (t - state.from) * scale;
    this.hits = { arrows: [], groups: [], bands: [] };
    ctx.fillStyle = colours.back;
    ctx.fillRect(0, 0, this.width, this.height);
    ctx.save();
    ctx.beginPath();
    ctx.rect(this.left, 0, this.right - this.left, this.height);
    ctx.clip();
    this.drawOutside(at, colours);
    this.drawAxis(state, at, colours);
    this.drawFaults(state, at, colours);
    this.drawArrows(state, at, colours);
    const lists = this.lanes.map(() => []);
    for (const entry of state.shown) {
      if (entry.type === "happening" && entry.lane !== NONE && lists[entry.lane]) lists[entry.lane].push(entry);
    }
    this.lanes.forEach((y, lane) => {
      const place = { y, left: this.left, right: this.right, above: this.laneHeight * 0.62 };
      drawLocks(ctx, lane, place, at, colours);
      drawLives(ctx, lane, place, at, colours);
    });
    this.lanes.forEach((y, lane) => {
      const place = { y, left: this.left, right: this.right, above: this.laneHeight * 0.62 };
      this.hits.groups.push(...drawSigns(ctx, lists[lane], place, at, colours, state.selected));
    });
    if (this.hits.arrows.length <= MAX_LABELLED) this.labelArrows(this.hits.arrows, colours);
    this.drawMarks(state, at, colours);
    ctx.restore();
    this.drawGutter(state, colours);
  }

  /** What is before the beginning, after the end, and before the first datagram that was kept, is shaded. */
  drawOutside(at, colours) {
    const { ctx } = this;
    ctx.fillStyle = colours.sheet;
    if (at(0) > this.left) ctx.fillRect(this.left, AXIS, at(0) - this.left, this.height);
    if (at(run.end) < this.right) ctx.fillRect(at(run.end), AXIS, this.right - at(run.end), this.height);
    if (run.leftOut.datagrams > 0 && flights.length > 0 && at(flights[0].at) > this.left) {
      ctx.fillRect(this.left, this.top, at(flights[0].at) - this.left, this.height);
      ctx.fillStyle = colours.dim;
      ctx.font = "11px system-ui, sans-serif";
      ctx.textBaseline = "top";
      ctx.textAlign = "right";
      ctx.fillText("datagrams before this were left out ▸", at(flights[0].at) - 6, this.top + 2);
      ctx.textAlign = "left";
    }
  }

  drawAxis(state, at, colours) {
    const { ctx } = this;
    const wish = ((state.to - state.from) * 110) / (this.right - this.left);
    const power = 10 ** Math.floor(Math.log10(wish));
    const step = Math.max(1, [1, 2, 5, 10].map((n) => n * power).find((n) => n >= wish));
    ctx.font = "11px system-ui, sans-serif";
    ctx.textBaseline = "middle";
    ctx.lineWidth = 1;
    for (let t = Math.ceil(state.from / step) * step; t <= state.to; t += step) {
      const x = Math.round(at(t)) + 0.5;
      ctx.strokeStyle = colours.grid;
      ctx.beginPath();
      ctx.moveTo(x, AXIS - 5);
      ctx.lineTo(x, this.height);
      ctx.stroke();
      ctx.fillStyle = colours.dim;
      ctx.fillText(timeText(t, step), x + 4, AXIS / 2);
    }
    ctx.strokeStyle = colours.line;
    ctx.strokeRect(this.left - 1, AXIS - 0.5, this.right, 0);
    this.lanes.forEach((_, lane) => ctx.strokeRect(this.left - 1, this.top + lane * this.laneHeight + 0.5, this.right, 0));
  }

  drawFaults(state, at, colours) {
    const { ctx } = this;
    ctx.font = "11px system-ui, sans-serif";
    ctx.textBaseline = "middle";
    for (const fault of faults) {
      const [from, to] = [at(fault.at), Math.max(at(fault.end), at(fault.at) + 3)];
      if (to < this.left || from > this.right) continue;
      const colour = colours[familyOf(fault.name)];
      const [a, b] = [Math.max(this.left, from), Math.min(this.right, to)];
      const y = AXIS + 3 + fault.row * this.rowHeight;
      const chosen = state.selected === fault || state.hovered === fault;
      ctx.fillStyle = ctx.strokeStyle = colour;
      // A fault of few hosts is tinted where it works; one of all would only make everything grey.
      if (chosen || fault.hosts.size < run.hosts) {
        ctx.globalAlpha = chosen ? 0.2 : 0.07;
        for (const lane of fault.hosts) ctx.fillRect(a, this.top + lane * this.laneHeight, b - a, this.laneHeight);
      }
      ctx.globalAlpha = chosen ? 0.5 : 0.22;
      ctx.fillRect(a, y, b - a, this.rowHeight - 2);
      ctx.globalAlpha = 1;
      ctx.lineWidth = chosen ? 2 : 1;
      ctx.strokeRect(from + 0.5, y + 0.5, to - from - 1, this.rowHeight - 3);
      this.hits.bands.push({ a, b, y, fault });
      if (this.rowHeight >= 12 && b - a > 14) {
        ctx.save();
        ctx.beginPath();
        ctx.rect(a, y, b - a - 3, this.rowHeight);
        ctx.clip();
        ctx.fillStyle = colours.text;
        ctx.fillText(fault.text, a + 4, y + this.rowHeight / 2 - 0.5);
        ctx.restore();
      }
    }
  }

  /** Returns the line of an arrow: to its end, or a part of the way for one that never arrives. */
  lineOf(flight, at) {
    const [x1, y1, y3] = [at(flight.at), this.lanes[flight.from], this.lanes[flight.to]];
    const outcome = run.outcomes[flight.outcome];
    if (flight.end !== NONE) {
      // What comes back to its own lane would have no length.
      return { flight, x1, y1, x2: at(flight.end), y2: y3 === y1 ? y1 - 16 : y3, ends: outcome === "undelivered" ? "cross" : "head" };
    }
    if (outcome === "under way") return { flight, x1, y1, x2: at(Math.max(run.end, flight.at)), y2: y1 + (y3 - y1) * 0.8, ends: "none" };
    return { flight, x1, y1, x2: at(flight.at + usualTravel * LOST_AT), y2: y1 === y3 ? y1 - 12 : y1 + (y3 - y1) * LOST_AT, ends: "cross" };
  }

  drawArrows(state, at, colours) {
    const { ctx } = this;
    const inSight = state.shown.filter(
      (f) => f.type === "flight" && f.at <= state.to && Math.max(f.end, f.at + usualTravel, run.outcomes[f.outcome] === "under way" ? run.end : 0) >= state.from,
    );
    let list = inSight;
    if (inSight.length > MAX_ARROWS) {
      const bars = { left: this.left, right: this.right, height: this.laneHeight * 0.46 };
      drawDensity(ctx, inSight, this.lanes, at, bars, colours);
      list = inSight.filter((f) => run.outcomes[f.outcome] !== "delivered");
      if (list.length > MAX_UNCOMMON) list = [];
    }
    const lines = list.map((flight) => this.lineOf(flight, at));
    this.hits.arrows = lines;
    const clear = lines.length < 250;
    ctx.globalAlpha = clear ? 0.95 : 0.45;
    ctx.lineWidth = clear ? 1.5 : 1;
    const byOutcome = groupBy(lines, (l) => l.flight.outcome);
    for (const outcome of [...byOutcome.keys()].sort((a, b) => a - b)) {
      this.strokeArrows(byOutcome.get(outcome), colours[run.outcomes[outcome]], run.outcomes[outcome] === "under way");
    }
    ctx.globalAlpha = 1;
    const { selected } = state;
    if (selected?.type === "flight") {
      // Copies and replays of it are shown with it, wherever they are.
      const kin = flights.filter((f) => f.number === selected.number && f !== selected).map((f) => this.lineOf(f, at));
      ctx.lineWidth = 2;
      this.strokeArrows(kin, colours.accent, true);
      ctx.lineWidth = 4;
      this.strokeArrows([this.lineOf(selected, at)], colours.accent, false);
    }
  }

  strokeArrows(lines, colour, dashed) {
    const { ctx } = this;
    ctx.strokeStyle = ctx.fillStyle = colour;
    ctx.setLineDash(dashed ? [5, 4] : []);
    ctx.beginPath();
    for (const { x1, y1, x2, y2 } of lines) {
      ctx.moveTo(x1, y1);
      ctx.lineTo(x2, y2);
    }
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.beginPath();
    for (const { x1, y1, x2, y2, ends } of lines) {
      if (ends === "cross") cross(ctx, x2, y2, 3.5);
    }
    ctx.stroke();
    ctx.beginPath();
    for (const { x1, y1, x2, y2, ends } of lines) {
      if (ends !== "head" || x2 < this.left - 10 || x2 > this.right + 10) continue;
      const angle = Math.atan2(y2 - y1, x2 - x1);
      const [c, s] = [Math.cos(angle), Math.sin(angle)];
      // The tip stands a little before the line of the lane, so that it is not hidden behind signs.
      const [tx, ty] = [x2 - 4 * c, y2 - 4 * s];
      ctx.moveTo(tx, ty);
      ctx.lineTo(tx - 8 * c + 3.2 * s, ty - 8 * s - 3.2 * c);
      ctx.lineTo(tx - 8 * c - 3.2 * s, ty - 8 * s + 3.2 * c);
      ctx.closePath();
    }
    ctx.fill();
  }

  labelArrows(lines, colours) {
    const { ctx } = this;
    ctx.font = "11px system-ui, sans-serif";
    ctx.textBaseline = "middle";
    const taken = [];
    for (const { flight, x1, y1, x2, y2 } of lines) {
      const text = flightText(flight);
      const width = ctx.measureText(text).width;
      const free = ([x, y]) =>
        this.lanes.every((lane) => y < lane - 12 || y > lane + 21) &&
        taken.every((box) => Math.abs(box.y - y) >= 13 || x > box.x + box.width + 4 || box.x > x + width + 4);
      const place = LABEL_AT.map((share) => [x1 + (x2 - x1) * share + 5, y1 + (y2 - y1) * share]).find(free);
      if (!place) continue;
      const [x, y] = place;
      taken.push({ x, y, width });
      ctx.globalAlpha = 0.85;
      ctx.fillStyle = colours.back;
      ctx.fillRect(x - 2, y - 7, width + 4, 14);
      ctx.globalAlpha = 1;
      ctx.fillStyle = colours[run.outcomes[flight.outcome]];
      ctx.fillText(text, x, y);
    }
  }

  /** The cursor, violations and what concerns all lanes. */
  drawMarks(state, at, colours) {
    const { ctx } = this;
    const bar = (t, colour, width, dash) => {
      ctx.strokeStyle = colour;
      ctx.lineWidth = width;
      ctx.setLineDash(dash);
      ctx.beginPath();
      ctx.moveTo(at(t), 0);
      ctx.lineTo(at(t), this.height);
      ctx.stroke();
      ctx.setLineDash([]);
    };
    for (const violation of violations) {
      bar(violation.at, colours.bad, 3, []);
      const text = `✖ ${violation.by}: ${violation.what}`;
      ctx.font = "600 12px system-ui, sans-serif";
      const width = Math.min(460, ctx.measureText(text).width + 12);
      const x = Math.max(this.left, Math.min(at(violation.at), this.right - width));
      if (at(violation.at) < this.left || at(violation.at) > this.right) continue;
      ctx.fillStyle = colours.bad;
      ctx.fillRect(x, this.top + 2, width, 20);
      ctx.fillStyle = colours.back;
      ctx.textBaseline = "middle";
      ctx.save();
      ctx.beginPath();
      ctx.rect(x, this.top, width - 6, 24);
      ctx.clip();
      ctx.fillText(text, x + 6, this.top + 12);
      ctx.restore();
    }
    bar(state.cursor, colours.accent, 1.5, [4, 3]);
    ctx.fillStyle = colours.accent;
    ctx.beginPath();
    ctx.moveTo(at(state.cursor) - 6, 0);
    ctx.lineTo(at(state.cursor) + 6, 0);
    ctx.lineTo(at(state.cursor), 9);
    ctx.fill();
  }

  drawGutter(state, colours) {
    const { ctx } = this;
    ctx.fillStyle = colours.back;
    ctx.fillRect(0, 0, this.left - 1, this.height);
    ctx.textBaseline = "middle";
    ctx.fillStyle = colours.dim;
    ctx.font = "11px system-ui, sans-serif";
    ctx.fillText("true time", 10, AXIS / 2);
    if (faults.length > 0) ctx.fillText("faults", 10, AXIS + 10);
    this.lanes.forEach((y, lane) => {
      ctx.font = "600 13px system-ui, sans-serif";
      ctx.fillStyle = state.lane === NONE || state.lane === lane ? colours.text : colours.dim;
      ctx.fillText(laneName(lane), 10, y);
    });
    ctx.strokeStyle = colours.line;
    ctx.lineWidth = 1;
    ctx.strokeRect(this.left - 0.5, 0, 0, this.height);
  }

  /** Returns what is at a place: a happening before a fault before an arrow. */
  find(x, y) {
    if (x < this.left) return null;
    const sign = this.hits.groups.find((group) => Math.abs(group.x - x) < 8 && Math.abs(group.y - y) < 10);
    if (sign) return sign.best;
    const band = this.hits.bands.find((hit) => x >= hit.a && x <= hit.b && y >= hit.y && y < hit.y + this.rowHeight);
    if (band) return band.fault;
    let [best, nearest] = [null, 6];
    for (const arrow of this.hits.arrows) {
      const far = distance(x, y, arrow);
      if (far < nearest) [best, nearest] = [arrow.flight, far];
    }
    return best;
  }
}

function groupBy(list, key) {
  const groups = new Map();
  for (const item of list) {
    if (!groups.has(key(item))) groups.set(key(item), []);
    groups.get(key(item)).push(item);
  }
  return groups;
}

/** Returns how far a point is from an arrow. */
function distance(x, y, { x1, y1, x2, y2 }) {
  const [dx, dy] = [x2 - x1, y2 - y1];
  const length = dx * dx + dy * dy;
  const along = length === 0 ? 0 : Math.max(0, Math.min(1, ((x - x1) * dx + (y - y1) * dy) / length));
  return Math.hypot(x - x1 - along * dx, y - y1 - along * dy);
}
