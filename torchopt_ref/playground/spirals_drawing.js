// What is drawn of the network that learns two spirals.

// The picture of the plane, and the points on it.
function drawPlane(canvas, picture, points) {
  const { context, width, height } = fitted(canvas);
  context.imageSmoothingEnabled = true;
  context.drawImage(picture, 0, 0, width, height);
  context.lineWidth = 1;
  context.strokeStyle = theme.paper;
  for (const label of [0, 1]) {
    context.fillStyle = label ? theme.two : theme.one;
    context.beginPath();
    for (let n = 0; n < points.labels.length; n++) {
      if (points.labels[n] !== label) continue;
      const x = (points.x[2 * n] / PLANE / 2 + 0.5) * width;
      const y = (0.5 - points.x[2 * n + 1] / PLANE / 2) * height;
      // Discs and squares, so that colour is not all that tells them apart.
      if (label) context.rect(x - 2.4, y - 2.4, 4.8, 4.8);
      else {
        context.moveTo(x + 2.7, y);
        context.arc(x, y, 2.7, 0, 2 * Math.PI);
      }
    }
    context.fill();
    context.stroke();
  }
}

// The curve of the losses. Those that share a pixel are averaged.
function drawLosses(canvas, losses) {
  const { context, width, height } = fitted(canvas);
  context.fillStyle = theme.ground;
  context.fillRect(0, 0, width, height);
  const [left, bottom] = [30, height - 20];
  const most = 1;
  const high = (value) => bottom - (clamp(value, 0, most) / most) * (bottom - 8);
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = theme.soft;
  context.strokeStyle = theme.line;
  context.lineWidth = 1;
  context.textAlign = "right";
  for (const value of [0, 0.25, 0.5, 0.75, 1]) {
    context.fillText(String(value), left - 5, high(value) + 4);
    context.beginPath();
    context.moveTo(left, high(value));
    context.lineTo(width - 6, high(value));
    context.stroke();
  }
  context.fillText(String(losses.length), width - 6, height - 5);
  context.strokeStyle = theme.accent;
  context.lineWidth = 1.6;
  context.beginPath();
  const share = Math.max(1, Math.ceil(losses.length / (width - left)));
  for (let k = 0; k < losses.length; k += share) {
    const part = losses.slice(k, k + share);
    const mean = part.reduce((a, b) => a + b) / part.length;
    if (!Number.isFinite(mean)) break;
    context.lineTo(left + (k / Math.max(losses.length, 50)) * (width - left - 6), high(mean));
  }
  context.stroke();
}

// How the outputs of a layer are distributed: a histogram. Returns their standard deviation.
function drawOutputs(canvas, outputs, [least, most, open]) {
  const { context, width, height } = fitted(canvas);
  const counts = new Array(30).fill(0);
  let sum = 0;
  let squares = 0;
  for (const value of outputs) {
    counts[clamp(Math.floor((30 * (value - least)) / (most - least)), 0, 29)] += 1;
    sum += value;
    squares += value * value;
  }
  context.fillStyle = theme.ground;
  context.fillRect(0, 0, width, height);
  context.fillStyle = theme.accent;
  // A bin of a quarter of all outputs fills the height, so that small bins can be seen.
  const top = 0.25 * outputs.length;
  counts.forEach((count, k) => {
    const high = Math.min(1, count / top) * (height - 18);
    context.fillRect((k / 30) * width + 0.5, height - 14 - high, width / 30 - 1, high);
  });
  context.fillStyle = theme.soft;
  context.font = "10px system-ui, sans-serif";
  context.textAlign = "left";
  context.fillText(String(least).replace("-", "−"), 2, height - 3);
  context.textAlign = "right";
  context.fillText(open ? `≥ ${most}` : String(most), width - 2, height - 3);
  const mean = sum / outputs.length;
  return Math.sqrt(Math.max(0, squares / outputs.length - mean * mean));
}
