// Lanes: the processes of each host, how right their views are, and what they said and were told.

/** What is most worth a sign, where there is room for one only. */
const CLASS_RANK = ["quorum", "left", "trouble", "process", "joined", "fault", "failure", "message", "outcome"];
const classRank = run.classes.map((name) => CLASS_RANK.indexOf(name));
/** From this rank on there may be so many that only what stands alone gets a label. */
const COMMON = CLASS_RANK.indexOf("failure");
const HATCH = 5;

/** Draws the sign of a class of happenings at a place. */
function sign(ctx, name, x, y, r, colours) {
  ctx.fillStyle = ctx.strokeStyle = colours[name];
  ctx.lineWidth = 2;
  ctx.beginPath();
  switch (name) {
    case "joined":
      ctx.moveTo(x, y - r); ctx.lineTo(x + r, y + r * 0.8); ctx.lineTo(x - r, y + r * 0.8); ctx.closePath(); ctx.fill();
      break;
    case "left":
      ctx.moveTo(x, y + r); ctx.lineTo(x + r, y - r * 0.8); ctx.lineTo(x - r, y - r * 0.8); ctx.closePath(); ctx.fill();
      break;
    case "quorum":
      ctx.moveTo(x, y - r * 1.2); ctx.lineTo(x + r * 1.2, y); ctx.lineTo(x, y + r * 1.2); ctx.lineTo(x - r * 1.2, y); ctx.closePath(); ctx.fill();
      break;
    case "process":
      ctx.rect(x - r * 0.8, y - r * 0.8, r * 1.6, r * 1.6); ctx.fill();
      break;
    case "failure":
      cross(ctx, x, y, r * 0.8); ctx.stroke();
      break;
    case "trouble":
      ctx.moveTo(x, y - r * 1.2); ctx.lineTo(x, y + r * 0.3); ctx.moveTo(x, y + r * 0.8); ctx.lineTo(x, y + r * 1.2); ctx.stroke();
      break;
    case "outcome":
      ctx.arc(x, y, r * 0.8, 0, 7); ctx.stroke();
      break;
    default:
      ctx.arc(x, y, r * 0.9, 0, 7); ctx.fill();
  }
}

function cross(ctx, x, y, r) {
  ctx.moveTo(x - r, y - r); ctx.lineTo(x + r, y + r);
  ctx.moveTo(x + r, y - r); ctx.lineTo(x - r, y + r);
}

/** Draws the processes of a lane. `at` gives the x of a time. */
function drawLives(ctx, lane, place, at, colours) {
  const { y, left, right } = place;
  for (const life of run.lives) {
    if (life.host !== lane) continue;
    const [from, to] = [at(life.started), at(endOf(life))];
    if (to < left || from > right) continue;
    for (const stretch of life.stretches) {
      const [a, b] = [Math.max(left, at(stretch.from)), Math.min(right, at(stretch.to))];
      if (b < a) continue;
      const width = Math.max(1, b - a);
      ctx.fillStyle = life.member ? colours.process : colours.foreign;
      const thick = stretch.quorum === 2 ? 2 : 6;
      ctx.fillRect(a, y - thick / 2, width, thick);
      ctx.fillStyle = colours[`view-${stretch.view}`];
      ctx.fillRect(a, y + 8, width, 5);
    }
    for (const pause of life.pauses) drawPause(ctx, Math.max(left, at(pause.from)), Math.min(right, at(pause.to)), y, colours);
    drawEnds(ctx, life, from, to, place, colours);
  }
}

/** Draws which locks somebody on a lane had: thin the leader's view, thick and with the token what the holder believed. */
function drawLocks(ctx, lane, place, at, colours) {
  const { y, left, right } = place;
  ctx.font = "10px system-ui, sans-serif";
  ctx.textBaseline = "middle";
  for (const lock of locks) {
    if (lock.lane !== lane) continue;
    const [a, b] = [Math.max(left, at(lock.from)), Math.min(right, at(lock.to))];
    if (b < a) continue;
    const width = Math.max(1, b - a);
    ctx.fillStyle = lock.believed ? colours.held : colours.leased;
    if (lock.believed) ctx.fillRect(a, y - 21, width, 10);
    else ctx.fillRect(a, y - 10, width, 3);
    if (!lock.believed || ctx.measureText(lock.text).width + 6 > width) continue;
    ctx.fillStyle = colours.text;
    ctx.fillText(lock.text, a + 3, y - 16);
  }
}

function drawPause(ctx, a, b, y, colours) {
  if (b <= a) return;
  ctx.save();
  ctx.beginPath();
  ctx.rect(a, y - 6, b - a, 12);
  ctx.clip();
  ctx.fillStyle = colours.back;
  ctx.fillRect(a, y - 6, b - a, 12);
  ctx.strokeStyle = colours.dim;
  ctx.lineWidth = 1.5;
  ctx.beginPath();
  for (let x = a - 12 - (a % HATCH); x < b; x += HATCH) {
    ctx.moveTo(x, y + 6); ctx.lineTo(x + 12, y - 6);
  }
  ctx.stroke();
  ctx.strokeRect(a, y - 6, b - a, 12);
  ctx.restore();
}

function drawEnds(ctx, life, from, to, { y, left, right }, colours) {
  if (from >= left && from <= right) {
    ctx.fillStyle = colours.process;
    ctx.fillRect(from - 1, y - 8, 3, 16);
  }
  if (life.ended !== NONE && to >= left && to <= right) {
    ctx.strokeStyle = life.leaving === NONE ? colours.bad : colours.process;
    ctx.lineWidth = 2.5;
    ctx.beginPath();
    if (life.leaving === NONE) cross(ctx, to, y, 6);
    else { ctx.moveTo(to, y - 8); ctx.lineTo(to, y + 8); }
    ctx.stroke();
  }
  const room = Math.min(to, right) - Math.max(from, left);
  ctx.font = "600 11px system-ui, sans-serif";
  const name = life.member ? life.label : `${life.label} (stranger)`;
  if (room > ctx.measureText(name).width + 8) {
    ctx.fillStyle = colours.text;
    ctx.textBaseline = "top";
    ctx.fillText(name, Math.max(from, left) + 4, y + 16);
  }
}

/** Puts happenings that are less than a sign apart together; returns the groups of a lane. */
function groupSigns(list, at, left, right) {
  const groups = [];
  for (const entry of list) {
    const x = at(entry.at);
    if (x < left - 5 || x > right + 5) continue;
    const last = groups[groups.length - 1];
    if (last && x - last.x < 9) {
      last.all.push(entry);
      if (classRank[entry.cls] < classRank[last.best.cls]) last.best = entry;
    } else groups.push({ x, best: entry, all: [entry] });
  }
  return groups;
}

/** Draws the happenings of a lane, with as many labels as there is room for; returns the groups. */
function drawSigns(ctx, list, place, at, colours, selected) {
  const groups = groupSigns(list, at, place.left, place.right);
  for (const group of groups) {
    group.y = place.y;
    const r = classRank[group.best.cls] >= COMMON ? 3.2 : 5;
    if (group.all.includes(selected)) {
      ctx.fillStyle = colours.chosen;
      ctx.strokeStyle = colours.accent;
      ctx.lineWidth = 2;
      ctx.beginPath();
      ctx.arc(group.x, place.y, r + 6, 0, 7);
      ctx.fill();
      ctx.stroke();
    }
    sign(ctx, run.classes[group.best.cls], group.x, place.y, r, colours);
  }
  drawLabels(ctx, groups, place, colours, selected);
  return groups;
}

/** Labels stand above the line in rows; the most important ones choose first. */
function drawLabels(ctx, groups, place, colours, selected) {
  const rows = Array.from({ length: Math.max(1, Math.floor((place.above - 12) / 13)) }, () => []);
  ctx.font = "11px system-ui, sans-serif";
  ctx.textBaseline = "bottom";
  ctx.lineWidth = 1;
  const rank = (group) => (group.all.includes(selected) ? -1 : classRank[group.best.cls]);
  for (const group of [...groups].sort((a, b) => rank(a) - rank(b) || a.x - b.x)) {
    const best = group.all.includes(selected) ? selected : group.best;
    if (rank(group) >= COMMON && group.all.length > 2) continue;
    const text = best.label;
    const width = ctx.measureText(text).width;
    const a = Math.max(place.left + 2, Math.min(group.x - 4, place.right - width - 2));
    const row = rows.findIndex((taken) => taken.every(([from, to]) => a > to + 6 || a + width < from - 6));
    if (row < 0) continue;
    rows[row].push([a, a + width]);
    const y = place.y - 10 - row * 13;
    ctx.strokeStyle = colours[run.classes[best.cls]];
    ctx.globalAlpha = 0.4;
    ctx.beginPath();
    ctx.moveTo(group.x, place.y - 4);
    ctx.lineTo(group.x, y);
    ctx.stroke();
    ctx.globalAlpha = 0.82;
    ctx.fillStyle = colours.back;
    ctx.fillRect(a - 2, y - 12, width + 4, 12);
    ctx.globalAlpha = 1;
    ctx.fillStyle = colours[run.classes[best.cls]];
    ctx.fillText(text, a, y);
  }
}

/** Draws how many datagrams each host sent, by outcome, where they are too many for arrows. */
function drawDensity(ctx, list, lanes, at, { left, right, height }, colours) {
  const WIDTH = 4;
  const buckets = new Map();
  let most = 1;
  for (const flight of list) {
    const x = Math.floor((at(flight.at) - left) / WIDTH);
    const key = flight.from * 100_000 + x;
    let bucket = buckets.get(key);
    if (!bucket) buckets.set(key, (bucket = { lane: flight.from, x, total: 0, by: new Array(run.outcomes.length).fill(0) }));
    bucket.by[flight.outcome]++;
    most = Math.max(most, ++bucket.total);
  }
  for (const { lane, x, total, by } of buckets.values()) {
    // The square root shows single datagrams beside hundreds.
    const tall = Math.sqrt(total / most) * height;
    let y = lanes[lane] - 5;
    by.forEach((count, outcome) => {
      if (count === 0) return;
      const part = (tall * count) / total;
      ctx.fillStyle = colours[run.outcomes[outcome]];
      ctx.fillRect(Math.max(left, left + x * WIDTH), y - part, WIDTH - 0.8, part);
      y -= part;
    });
  }
  return most;
}
