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
const CELLS = 60; // the plane is drawn in CELLS x CELLS cells
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
// The range of each histogram. true: its last bin also counts what lies above.
const RANGES = { sigmoid: [0, 1], tanh: [-1, 1], relu: [0, 3, true] };

// The middles of the cells of the plane, row by row.
function cellsOfPlane() {
  const cells = new Float64Array(2 * CELLS * CELLS);
  for (let k = 0; k < CELLS * CELLS; k++) {
    cells[2 * k] = PLANE * ((2 * ((k % CELLS) + 0.5)) / CELLS - 1);
    cells[2 * k + 1] = PLANE * (1 - (2 * (Math.floor(k / CELLS) + 0.5)) / CELLS);
  }
  return cells;
}

// BATCH of the points, drawn at random, and their labels.
function batchOf(points, random) {
  const x = new Float64Array(2 * BATCH);
  const labels = new Uint8Array(BATCH);
  for (let n = 0; n < BATCH; n++) {
    const k = Math.floor(random() * points.labels.length);
    x.set(points.x.subarray(2 * k, 2 * k + 2), 2 * n);
    labels[n] = points.labels[k];
  }
  return [x, labels];
}

const short = (value) => written(Number(value.toPrecision(2)));

class SpiralsPlayer {
  constructor() {
    const find = (id) => document.getElementById(id);
    this.plane = find("plane");
    this.loss = find("loss");
    this.layers = find("layers");
    this.text = find("plane-text");
    this.points = spirals(400, 0.02, generator(1));
    this.unseen = spirals(400, 0.02, generator(2));
    this.cells = cellsOfPlane();
    this.image = new ImageData(CELLS, CELLS);
    this.picture = document.createElement("canvas");
    Object.assign(this.picture, { width: CELLS, height: CELLS });
    this.row = 0; // the row of the plane that is drawn next
    this.training = null; // { network, key, state, random, losses, activations, right }
    this.choices("initial", Object.keys(INITIAL));
    this.choices("activation", ["sigmoid", "tanh", "relu"]);
    this.batchNormAndSliders(find("batchnorm"), find("network-sliders"));
    this.optimizer(find("trainer"));
    this.restart();
  }

  set(name, value) {
    SPIRALS[name] = value;
    this.restart();
  }

  // A button for each choice of a setting; the chosen one is pressed.
  choices(name, all) {
    const group = document.querySelector(`[data-choice="${name}"]`);
    const show = () =>
      [...group.children].forEach((button) =>
        button.setAttribute("aria-pressed", button.dataset.t === SPIRALS[name]),
      );
    for (const choice of all) {
      const button = element("button", { type: "button", data: { t: choice } });
      button.addEventListener("click", () => {
        SPIRALS[name] = choice;
        show();
        this.restart();
      });
      group.append(button);
    }
    show();
  }

  batchNormAndSliders(batchnorm, sliders) {
    batchnorm.checked = SPIRALS.batchnorm;
    batchnorm.addEventListener("change", ({ target }) => this.set("batchnorm", target.checked));
    sliders.append(
      slider(
        "dropout",
        "",
        SPIRALS.dropout,
        linear(0.9, 0.05),
        { least: 0, most: 0.9 },
        (value) => this.set("dropout", value),
      ),
      slider(
        "depth",
        "",
        SPIRALS.depth,
        { most: 5, value: (p) => p + 1, position: (v) => v - 1 },
        { least: 1, most: 6 },
        (value) => this.set("depth", Math.round(value)),
      ),
    );
  }

  optimizer(place) {
    const rate = (optimizer) => RATES[methodOf(optimizer)];
    SPIRALS.run.h = beginning(OPTIMIZERS[SPIRALS.run.key], rate);
    const card = optimizerCard(SPIRALS.run, rate, () => {
      const { key } = SPIRALS.run;
      // Another optimizer would misread the slots of the last one.
      if (key !== this.training.key) Object.assign(this.training, { key, state: newState() });
    });
    card.prepend(element("h3", { data: { t: "trained_by" } }));
    card.append(card.code);
    place.append(card);
  }

  // A new network, before its first step. One batch goes through it for the histograms.
  restart() {
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
    this.training = { network, key: SPIRALS.run.key, state: newState(), random, losses: [] };
    this.learn();
    this.layers.replaceChildren(
      ...network.hidden.map((_, i) =>
        element(
          "figure",
          { data: { layer: i + 1 } },
          element("canvas", { role: "img" }),
          element("figcaption", {}, element("strong"), element("div")),
        ),
      ),
    );
    this.draw();
  }

  // The loss of a new batch, its gradients, and the activations, which are kept for the histograms.
  learn() {
    const { network, random } = this.training;
    const found = network.gradient(...batchOf(this.points, random));
    this.training.activations = network.hidden.map(({ y }) => y);
    return found;
  }

  iterate() {
    const { network, state, losses } = this.training;
    losses.push(this.learn());
    takeStep(OPTIMIZERS[SPIRALS.run.key], SPIRALS.run.h, state, network.params, network.grads);
  }

  get broken() {
    const { losses } = this.training;
    return losses.length > 0 && !Number.isFinite(losses.at(-1));
  }

  // Ask the network about some rows of the plane. After the last row draw the plane anew, and count
  // how often the network is right.
  look(rows) {
    const { network } = this.training;
    const begin = this.row * CELLS;
    const end = Math.min(begin + rows * CELLS, CELLS * CELLS);
    const logits = network.predict(this.cells.subarray(2 * begin, 2 * end));
    const [zero, one, ground] = [channels(theme.one), channels(theme.two), channels(theme.paper)];
    for (let k = begin; k < end; k++) {
      const p = 1 / (1 + Math.exp(logits[2 * (k - begin)] - logits[2 * (k - begin) + 1]));
      const sure = 0.45 * Math.abs(2 * p - 1);
      const color = p > 0.5 ? one : zero;
      const { data } = this.image;
      for (let c = 0; c < 3; c++) data[4 * k + c] = ground[c] + sure * (color[c] - ground[c]);
      data[4 * k + 3] = 255;
    }
    this.row = end === CELLS * CELLS ? 0 : end / CELLS;
    if (this.row !== 0) return;
    this.picture.getContext("2d").putImageData(this.image, 0, 0);
    this.training.right = [accuracy(network, this.points), accuracy(network, this.unseen)];
    drawPlane(this.plane, this.picture, this.points);
  }

  drawText() {
    const [train, test] = this.training.right.map((part) => `${(100 * part).toFixed(1)}%`);
    this.text.textContent = this.broken
      ? t("diverged")
      : t("plane_text", { step: this.training.losses.length, train, test });
  }

  drawLayers() {
    for (const [i, figure] of [...this.layers.children].entries()) {
      const [canvas, caption] = figure.children;
      const std = drawOutputs(canvas, this.training.activations[i], RANGES[SPIRALS.activation]);
      const { gradW } = this.training.network.affine[i];
      const gradient = Math.sqrt(gradW.reduce((a, b) => a + b * b, 0));
      caption.firstChild.textContent = t("layer", { number: i + 1 });
      caption.lastChild.textContent = t("layer_text", {
        std: short(std),
        gradient: short(gradient),
      });
      canvas.setAttribute("aria-label", t("layer_label", { number: i + 1 }));
    }
  }

  draw(rows = CELLS) {
    if (!this.plane.clientWidth) return;
    if (rows === CELLS) this.row = 0;
    this.look(rows);
    this.drawText();
    drawLosses(this.loss, this.training.losses);
    this.drawLayers();
  }

  redraw() {
    this.draw();
  }

  // Iterate for about 4 ms, so that these and the drawing fit into a sixtieth of a second.
  advance() {
    const until = performance.now() + 4;
    do this.iterate();
    while (performance.now() < until && !this.broken);
    this.draw(4);
    return !this.broken;
  }

  step(count) {
    if (count > 0 && !this.broken) this.iterate();
    this.draw();
  }

  begin() {
    if (this.broken) this.restart();
  }
}
