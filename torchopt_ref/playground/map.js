// The surface from above, and the paths on it. A frame takes the surface's coordinates to pixels.

function frameOf({ view: [left, right, bottom, top] }, width, height) {
  // Far outside the picture a canvas draws nothing sensible.
  const held = (value) => clamp(value, -20000, 20000);
  return {
    width,
    height,
    across: (x) => held(((x - left) / (right - left)) * width),
    down: (y) => held(((top - y) / (top - bottom)) * height),
  };
}

// The whole picture. background.canvas shows the surface, and is drawn anew where background.shown
// is false or the size has changed; pen is where the keyboard draws, or null.
function drawPaths(canvas, background, surface, { runs, time, steps, start }, pen) {
  const { context, width, height } = fitted(canvas);
  if (!width) return;
  const frame = frameOf(surface, width, height);
  const { canvas: behind } = background;
  if (!background.shown || behind.width !== canvas.width || behind.height !== canvas.height) {
    Object.assign(behind, { width: canvas.width, height: canvas.height });
    drawSurface(behind, surface, frame);
    background.shown = true;
  }
  context.drawImage(behind, 0, 0, width, height);
  for (const run of runs) drawPath(context, run, time, steps, frame);
  for (const run of runs) {
    const [x, y] = standing(run.path, time);
    if (Number.isFinite(x + y)) mark(context, run.number, frame.across(x), frame.down(y), 6.5);
  }
  context.strokeStyle = theme.ink;
  context.lineWidth = 2;
  context.beginPath();
  context.arc(frame.across(start[0]), frame.down(start[1]), 9, 0, 2 * Math.PI);
  context.stroke();
  if (pen) context.strokeRect(frame.across(pen[0]) - 7, frame.down(pen[1]) - 7, 14, 14);
}

// Where a path stands at a time between two steps.
function standing({ position }, time) {
  const k = Math.floor(time);
  const next = Math.min(2 * k + 2, position.length - 2);
  return [0, 1].map(
    (i) => position[2 * k + i] + (time - k) * (position[next + i] - position[2 * k + i]),
  );
}

// A line to where the path stands and, where they can be told apart, a dot for each step.
function drawPath(context, { path, number }, time, steps, { across, down }) {
  const { position } = path;
  context.strokeStyle = context.fillStyle = theme.runs[number];
  context.lineWidth = 2;
  context.lineJoin = "round";
  const points = [];
  for (let k = 0; k <= time && Number.isFinite(position[2 * k] + position[2 * k + 1]); k++) {
    points.push([across(position[2 * k]), down(position[2 * k + 1])]);
  }
  context.beginPath();
  for (const point of points) context.lineTo(...point);
  const [x, y] = standing(path, time);
  if (Number.isFinite(x + y)) context.lineTo(across(x), down(y));
  context.stroke();
  if (steps > 150) return;
  context.beginPath();
  for (const [u, v] of points.slice(1)) {
    context.moveTo(u, v);
    context.arc(u, v, 2.4, 0, 2 * Math.PI);
  }
  context.fill();
}

// The surface: bands of colour between levels, the contours on them, and the axes.
function drawSurface(canvas, surface, frame) {
  const { width, height } = frame;
  const grid = { columns: 161, rows: 111 };
  grid.values = sampled(surface, grid.columns, grid.rows);
  const found = levels(grid.values, 18);
  const context = canvas.getContext("2d");
  context.drawImage(bands(grid, found, width, height), 0, 0, canvas.width, canvas.height);
  context.scale(canvas.width / width, canvas.height / height);
  context.strokeStyle = theme.contour;
  context.lineWidth = 1;
  context.beginPath();
  const across = (i) => (i / (grid.columns - 1)) * width;
  const down = (j) => (1 - j / (grid.rows - 1)) * height;
  for (const level of found) {
    contour(grid.values, grid.columns, grid.rows, level, (x1, y1, x2, y2) => {
      context.moveTo(across(x1), down(y1));
      context.lineTo(across(x2), down(y2));
    });
  }
  context.stroke();
  drawAxes(context, surface, frame);
}

// A canvas in CSS pixels; between the grid's corners the values are interpolated.
function bands({ values, columns, rows }, found, width, height) {
  const image = new ImageData(width, height);
  const [low, high] = [channels(theme.low), channels(theme.high)];
  for (let v = 0; v < height; v++) {
    const j = (1 - v / height) * (rows - 1);
    const below = Math.min(Math.floor(j), rows - 2);
    for (let u = 0; u < width; u++) {
      const i = (u / width) * (columns - 1);
      const k = Math.floor(i) + below * columns;
      const [a, b] = [i % 1, j - below];
      const bottom = (1 - a) * values[k] + a * values[k + 1];
      const top = (1 - a) * values[k + columns] + a * values[k + columns + 1];
      const value = (1 - b) * bottom + b * top;
      let band = 0;
      while (band < found.length && value > found[band]) band++;
      const part = band / found.length;
      const pixel = 4 * (v * width + u);
      for (let c = 0; c < 3; c++) image.data[pixel + c] = low[c] + part * (high[c] - low[c]);
      image.data[pixel + 3] = 255;
    }
  }
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// Numbers along the left and the bottom, and a cross at each minimum.
function drawAxes(context, { view: [left, right, bottom, top], minima }, frame) {
  const { width, height, across, down } = frame;
  context.fillStyle = theme.soft;
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "center";
  for (const x of ticks(left, right)) context.fillText(written(x), across(x), height - 5);
  context.textAlign = "left";
  const below = (y) => down(y) > 26; // leaves room for the axis's name
  for (const y of ticks(bottom, top).filter(below)) context.fillText(written(y), 5, down(y) + 4);
  context.font = "italic 13px system-ui, sans-serif";
  context.fillText("x", width - 14, height - 6);
  context.fillText("y", 6, 15);
  context.strokeStyle = theme.ink;
  context.lineWidth = 1.5;
  for (const [x, y] of minima) {
    const [u, v] = [across(x), down(y)];
    context.beginPath();
    context.moveTo(u - 6, v);
    context.lineTo(u + 6, v);
    context.moveTo(u, v - 6);
    context.lineTo(u, v + 6);
    context.stroke();
  }
}

// At most eight round numbers between two.
function ticks(low, high) {
  const step = [0.5, 1, 2, 5].find((size) => (high - low) / size <= 8) ?? 10;
  const found = [];
  for (let k = Math.floor(low / step) + 1; k * step < high; k++) found.push(k * step);
  return found;
}

// The values over the steps; their scale is logarithmic where no value is below 0. What is lower
// than the scale leaves the picture.
function drawDescent(canvas, surface, { runs, time, steps, start }) {
  const { context, width, height } = fitted(canvas);
  context.clearRect(0, 0, width, height);
  if (runs.length === 0) return;
  const lowest = Math.min(...runs.flatMap(({ values }) => [...values]).filter(Number.isFinite));
  const highest = Math.max(surface.at(...start)[0], 1e-12);
  const logs = lowest >= 0;
  const least = logs ? Math.log10(clamp(lowest, highest * 1e-8, highest / 10)) : lowest;
  const most = logs ? Math.log10(highest) + 0.3 : highest + 0.1 * (highest - lowest);
  const [left, right, bottom] = [44, width - 8, height - 6];
  const across = (k) => left + (k / steps) * (right - left);
  const down = (value) => {
    const scaled = logs ? Math.log10(Math.max(value, 1e-300)) : value;
    return clamp(bottom - ((scaled - least) / (most - least)) * (bottom - 20), 14, height + 2);
  };
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = theme.soft;
  context.textAlign = "left";
  context.fillText(t("descent_axis"), left, 10);
  context.textAlign = "right";
  context.strokeStyle = theme.line;
  context.lineWidth = 1;
  const named = logs
    ? [0, 1, 2].map((i) => 10 ** Math.round(least + ((most - least) * i) / 2.2))
    : [least, (least + highest) / 2, highest];
  for (const value of new Set(named)) {
    context.fillText(written(Number(value.toPrecision(2))), left - 6, down(value) + 4);
    context.beginPath();
    context.moveTo(left, down(value));
    context.lineTo(right, down(value));
    context.stroke();
  }
  context.lineWidth = 1.8;
  for (const { values, number } of runs) {
    context.strokeStyle = theme.runs[number];
    context.beginPath();
    for (let k = 0; k <= steps && Number.isFinite(values[k]); k++) {
      context.lineTo(across(k), down(values[k]));
    }
    context.stroke();
  }
  context.strokeStyle = theme.ink;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(across(time), 14);
  context.lineTo(across(time), bottom);
  context.stroke();
}
