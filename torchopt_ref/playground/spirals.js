// The second section: a network learns two spirals.

const SPIRALS = {
  initial: "he",
  activation: "relu",
  batchnorm: false,
  dropout: 0,
  depth: 5,
  run: { key: "book.Adam" in OPTIMIZERS ? "book.Adam" : Object.keys(OPTIMIZERS)[0] },
};
const UNITS = 24;
const BATCH = 100;
const PLANE = 1.25; // half of the side of the plane that is shown
const CELLS = 60; // in which the plane is drawn
const INITIAL = { std_small: 0.01, std_one: 1, xavier: "xavier", he: "he" };
const RATES = {
  SGD: 0.1,
  Momentum: 0.05,
  Nesterov: 0.05,
  AdaGrad: 0.02,
  RMSprop: 0.003,
  Adam: 0.01,
  AdamW: 0.01,
};
// Of the histograms. true: the last bin has what lies above, too.
const RANGES = { sigmoid: [0, 1], tanh: [-1, 1], relu: [0, 3, true] };

function learning() {
  const find = (id) => document.getElementById(id);
  const [plane, loss, layers] = [find("plane"), find("loss"), find("layers")];
  const rate = (optimizer) => RATES[methodOf(optimizer)];
  SPIRALS.run.h = beginning(OPTIMIZERS[SPIRALS.run.key], rate);

  const points = spirals(400, 0.02, generator(1));
  const unseen = spirals(400, 0.02, generator(2));
  const cells = new Float64Array(2 * CELLS * CELLS);
  for (let k = 0; k < CELLS * CELLS; k++) {
    cells[2 * k] = PLANE * ((2 * ((k % CELLS) + 0.5)) / CELLS - 1);
    cells[2 * k + 1] = PLANE * (1 - (2 * (Math.floor(k / CELLS) + 0.5)) / CELLS);
  }
  const image = new ImageData(CELLS, CELLS);
  const picture = document.createElement("canvas");
  Object.assign(picture, { width: CELLS, height: CELLS });
  let training = null; // { network, key, state, random, losses, right }
  let row = 0; // of the plane, the next to be drawn

  // A new network, before its first step. One batch goes through it for the histograms.
  function restart() {
    const random = generator(3);
    const { activation, batchnorm, dropout, depth, initial } = SPIRALS;
    const network = new Network({
      sizes: [2, ...Array(depth).fill(UNITS), 2],
      activation,
      batchnorm,
      dropout,
      random,
    });
    network.initialise(INITIAL[initial], random);
    training = { network, key: SPIRALS.run.key, state: newState(), random, losses: [] };
    learn();
    layers.replaceChildren(
      ...network.hidden.map((_, i) =>
        element(
          "figure",
          {},
          element("canvas", { role: "img" }),
          element("figcaption", {}, element("strong"), element("div")),
        ),
      ),
    );
    for (const [i, figure] of [...layers.children].entries()) figure.dataset.layer = i + 1;
    draw();
  }

  function batch(random) {
    const x = new Float64Array(2 * BATCH);
    const labels = new Uint8Array(BATCH);
    for (let n = 0; n < BATCH; n++) {
      const k = Math.floor(random() * points.labels.length);
      x.set(points.x.subarray(2 * k, 2 * k + 2), 2 * n);
      labels[n] = points.labels[k];
    }
    return [x, labels];
  }

  // The loss of a new batch, its gradients, and the activations, which are kept for the histograms.
  function learn() {
    const { network, random } = training;
    const found = network.gradient(...batch(random));
    training.activations = network.hidden.map(({ y }) => y);
    return found;
  }

  function iterate() {
    const { network, state, losses } = training;
    losses.push(learn());
    takeStep(OPTIMIZERS[SPIRALS.run.key], SPIRALS.run.h, state, network.params, network.grads);
  }

  const broken = () => training.losses.length > 0 && !Number.isFinite(training.losses.at(-1));

  // What the network says of some rows of the plane. After the last the plane is drawn anew, and
  // counted how often the network is right.
  function look(rows) {
    const begin = row * CELLS;
    const end = Math.min(begin + rows * CELLS, CELLS * CELLS);
    const logits = training.network.predict(cells.subarray(2 * begin, 2 * end));
    const [zero, one, ground] = [channels(theme.one), channels(theme.two), channels(theme.paper)];
    for (let k = begin; k < end; k++) {
      const p = 1 / (1 + Math.exp(logits[2 * (k - begin)] - logits[2 * (k - begin) + 1]));
      const sure = 0.45 * Math.abs(2 * p - 1);
      const color = p > 0.5 ? one : zero;
      for (let c = 0; c < 3; c++) image.data[4 * k + c] = ground[c] + sure * (color[c] - ground[c]);
      image.data[4 * k + 3] = 255;
    }
    row = end === CELLS * CELLS ? 0 : end / CELLS;
    if (row !== 0) return;
    picture.getContext("2d").putImageData(image, 0, 0);
    training.right = [accuracy(training.network, points), accuracy(training.network, unseen)];
    drawPlane();
  }

  function drawPlane() {
    const { context, width, height } = fitted(plane);
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

  function drawText() {
    const [train, test] = training.right.map((part) => `${(100 * part).toFixed(1)}%`);
    const text = broken()
      ? t("diverged")
      : t("plane_text", { step: training.losses.length, train, test });
    find("plane-text").textContent = text;
  }

  // The losses, as many of them averaged as share a pixel.
  function drawLoss() {
    const { context, width, height } = fitted(loss);
    const { losses } = training;
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

  function drawLayers() {
    const { activations } = training;
    const { affine } = training.network;
    const [least, most, open] = RANGES[SPIRALS.activation];
    for (const [i, figure] of [...layers.children].entries()) {
      const y = activations[i];
      const [canvas, caption] = figure.children;
      const { context, width, height } = fitted(canvas);
      const counts = new Array(30).fill(0);
      let sum = 0;
      let squares = 0;
      for (const value of y) {
        counts[clamp(Math.floor((30 * (value - least)) / (most - least)), 0, 29)] += 1;
        sum += value;
        squares += value * value;
      }
      context.fillStyle = theme.ground;
      context.fillRect(0, 0, width, height);
      context.fillStyle = theme.accent;
      // A pile of a quarter of all fills the height, so that the rest is seen.
      const top = 0.25 * y.length;
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
      const mean = sum / y.length;
      const std = Math.sqrt(Math.max(0, squares / y.length - mean * mean));
      const gradient = Math.sqrt(affine[i].gradW.reduce((a, b) => a + b * b, 0));
      caption.firstChild.textContent = t("layer", { number: i + 1 });
      caption.lastChild.textContent = t("layer_text", {
        std: short(std),
        gradient: short(gradient),
      });
      canvas.setAttribute("aria-label", t("layer_label", { number: i + 1 }));
    }
  }

  const short = (value) => written(Number(value.toPrecision(2)));

  function draw(rows = CELLS) {
    if (!plane.clientWidth) return;
    if (rows === CELLS) row = 0;
    look(rows);
    drawText();
    drawLoss();
    drawLayers();
  }

  for (const [name, choices] of Object.entries({
    initial: Object.keys(INITIAL),
    activation: ["sigmoid", "tanh", "relu"],
  })) {
    const group = document.querySelector(`[data-choice="${name}"]`);
    const show = () =>
      [...group.children].forEach((button) =>
        button.setAttribute("aria-pressed", button.dataset.t === SPIRALS[name]),
      );
    for (const choice of choices) {
      const button = element("button", { type: "button", data: { t: choice } });
      button.addEventListener("click", () => {
        SPIRALS[name] = choice;
        show();
        restart();
      });
      group.append(button);
    }
    show();
  }
  find("batchnorm").checked = SPIRALS.batchnorm;
  find("batchnorm").addEventListener("change", ({ target }) => {
    SPIRALS.batchnorm = target.checked;
    restart();
  });
  const set = (name) => (value) => {
    SPIRALS[name] = value;
    restart();
  };
  find("network-sliders").append(
    slider(
      "dropout",
      "",
      SPIRALS.dropout,
      linear(0.9, 0.05),
      { least: 0, most: 0.9 },
      set("dropout"),
    ),
    slider(
      "depth",
      "",
      SPIRALS.depth,
      { most: 5, value: (p) => p + 1, position: (v) => v - 1 },
      { least: 1, most: 6 },
      (value) => set("depth")(Math.round(value)),
    ),
  );
  const card = optimizerCard(SPIRALS.run, rate, () => {
    const { key } = SPIRALS.run;
    // Another optimizer would misread what the last one remembers.
    if (key !== training.key) Object.assign(training, { key, state: newState() });
  });
  card.prepend(element("h3", { data: { t: "trained_by" } }));
  card.append(card.code);
  find("trainer").append(card);
  restart();

  return {
    draw,
    restart,
    redraw: () => draw(),
    // As many iterations as fit beside the drawing into a sixtieth of a second.
    advance() {
      const until = performance.now() + 4;
      do iterate();
      while (performance.now() < until && !broken());
      draw(4);
      return !broken();
    },
    step(count) {
      if (count > 0 && !broken()) iterate();
      draw();
    },
    begin() {
      if (broken()) restart();
    },
  };
}
