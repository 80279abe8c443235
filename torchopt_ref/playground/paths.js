// The first section: paths of several optimizers down a surface.

const MOST_RUNS = 6;
const PATHS = {
  surface: "valley",
  tool: "dig",
  time: 0, // in steps; not a whole number while it plays
  runs: [], // { key, h, number, path, card, cells }
};

const surfaceNow = () => SURFACES[PATHS.surface];
const rateOnSurface = (optimizer) => surfaceNow().rates[methodOf(optimizer)];
const drawing = () => PATHS.surface === "drawn" && PATHS.tool !== "start";

function sign(canvas, number) {
  const { context, width, height } = fitted(canvas);
  context.clearRect(0, 0, width, height);
  mark(context, number, width / 2, height / 2, 6.5);
}

function judge(box, wrong) {
  box.setAttribute("aria-invalid", wrong !== "");
  box.setCustomValidity(wrong);
}

// A canvas in which sign draws the mark of a run.
function emptyMark() {
  return element("canvas", { className: "mark", "aria-hidden": "true" });
}

function stateName(name) {
  if (name === "theta" || name === "gradient")
    return element("th", { scope: "row", data: { t: name } });
  return element("th", { scope: "row", title: name, data: { named: `slot_${name}`, name } }, name);
}

class PathsPlayer {
  constructor() {
    const find = (id) => document.getElementById(id);
    this.map = find("map");
    this.hint = find("map-hint");
    this.descent = find("descent");
    this.timeline = find("time");
    this.timeText = find("time-text");
    this.cards = find("cards");
    this.legend = find("legend");
    this.choice = find("surface");
    this.background = { canvas: document.createElement("canvas"), shown: false };
    this.pen = [0, 0]; // where the keyboard draws
    this.shown = null; // the step whose state is shown
    this.last = null; // where the pointer last drew; null while it is up
    this.before = null; // the start before the pointer moved it
    this.listenToSettings(find);
    this.listenToPointer();
    this.map.addEventListener("keydown", (event) => this.keyOnMap(event));
    this.map.addEventListener("focus", () => this.drawMap());
    this.map.addEventListener("blur", () => this.drawMap());
    this.more = this.buttonForMore();
    this.cards.append(this.more);
    for (const name of ["SGD", "Momentum", "AdaGrad", "RMSprop", "Adam"])
      this.add(`book.${name}` in OPTIMIZERS ? `book.${name}` : name);
    this.choose("valley");
  }

  listenToSettings(find) {
    this.choice.append(
      ...Object.keys(SURFACES).map((name) => element("option", { value: name, data: { t: name } })),
    );
    this.choice.addEventListener("change", (event) => this.choose(event.target.value));
    this.boxes = { steps: find("steps"), noise: find("noise") };
    this.listenToNumber(this.boxes.steps, 1, 1000, true);
    this.listenToNumber(this.boxes.noise, 0, 10, false);
    this.listenToNumber(find("seed"), 0, 999999, true);
    PATHS.seed = 1;
    find("seed").value = PATHS.seed;
    for (const button of document.querySelectorAll("[data-tool]"))
      button.addEventListener("click", () => this.useTool(button.dataset.tool));
    find("flatten").addEventListener("click", () => {
      SURFACES.drawn.dents.length = 0;
      this.background.shown = false;
      this.recompute();
    });
    this.timeline.addEventListener("input", () => {
      pause();
      PATHS.time = Number(this.timeline.value);
      this.draw();
    });
  }

  listenToNumber(box, least, most, whole) {
    box.addEventListener("input", () => {
      const value = box.valueAsNumber;
      const fits = value >= least && value <= most && (!whole || Number.isInteger(value));
      judge(box, fits ? "" : t("between", { least, most }));
      if (!fits) return box.reportValidity();
      PATHS[box.id] = value;
      this.recompute();
    });
  }

  listenToPointer() {
    this.map.addEventListener("pointerdown", (event) => {
      this.before = PATHS.start;
      this.map.setPointerCapture(event.pointerId);
      this.last = drawing() ? this.dent(this.pointed(event), null) : this.pointed(event);
      if (!drawing()) this.moveStart(this.last);
    });
    this.map.addEventListener("pointermove", (event) => {
      if (this.last === null) return;
      if (drawing()) this.last = this.dent(this.pointed(event), this.last);
      else this.moveStart(this.pointed(event));
    });
    this.map.addEventListener("pointerup", () => (this.last = null));
    this.map.addEventListener("pointercancel", () => {
      // The finger scrolls the page, and was not meant to move the start.
      if (this.last !== null && !drawing()) this.moveStart(this.before);
      this.last = null;
    });
  }

  keyOnMap(event) {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[
      event.key
    ];
    const [left, right, bottom, top] = surfaceNow().view;
    if (move) {
      const from = drawing() ? this.pen : PATHS.start;
      const to = [
        from[0] + (move[0] * (right - left)) / 50,
        from[1] + (move[1] * (top - bottom)) / 50,
      ];
      if (drawing()) {
        this.pen = [clamp(to[0], left, right), clamp(to[1], bottom, top)];
        this.drawMap();
      } else this.moveStart(to.map((value) => Number(value.toPrecision(3))));
    } else if (event.key === "Enter" && drawing()) this.dent(this.pen, null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  buttonForMore() {
    const more = element("button", { type: "button", data: { t: "add" } });
    more.addEventListener("click", () => {
      this.add("Adam" in OPTIMIZERS ? "Adam" : Object.keys(OPTIMIZERS)[0]);
      this.recompute();
      PATHS.runs.at(-1).card.querySelector("select").focus();
      translate();
    });
    return more;
  }

  // A run of one more optimizer, with a card of its own.
  add(key) {
    const used = PATHS.runs.map(({ number }) => number);
    const number = [...Array(MOST_RUNS).keys()].find((each) => !used.includes(each));
    const run = { key, number, h: beginning(OPTIMIZERS[key], rateOnSurface) };
    run.card = optimizerCard(run, rateOnSurface, () => this.recompute());
    const own = emptyMark();
    run.card.header.prepend(own);
    run.card.header.append(this.buttonToRemove(run));
    run.status = element("p", { className: "status" });
    run.body = element("tbody");
    const columns = [
      element("th", { scope: "col", data: { t: "state_what" } }),
      ...["x", "y"].map((axis) => element("th", { scope: "col" }, axis)),
    ];
    const head = element("thead", {}, element("tr", {}, ...columns));
    run.card.append(run.status, element("table", {}, head, run.body), run.card.code);
    run.sign = () => sign(own, number);
    PATHS.runs.push(run);
    this.cards.insertBefore(run.card, this.more);
    this.more.disabled = PATHS.runs.length === MOST_RUNS;
    run.sign();
  }

  buttonToRemove(run) {
    const remove = element(
      "button",
      { type: "button", className: "remove", data: { label: "remove" } },
      "×",
    );
    remove.addEventListener("click", () => {
      PATHS.runs.splice(PATHS.runs.indexOf(run), 1);
      run.card.remove();
      this.more.disabled = false;
      this.more.focus();
      this.recompute();
    });
    return remove;
  }

  // After a setting has changed: walk all paths again, and draw.
  recompute() {
    const surface = surfaceNow();
    const noise = surface.noise === undefined ? 0 : PATHS.noise;
    for (const run of PATHS.runs) {
      run.path = walk(
        OPTIMIZERS[run.key],
        run.h,
        surface,
        PATHS.start,
        PATHS.steps,
        noise,
        PATHS.seed,
      );
      run.values = Float64Array.from(
        { length: PATHS.steps + 1 },
        (_, k) => surface.at(run.path.position[2 * k], run.path.position[2 * k + 1])[0],
      );
      run.rows = null;
    }
    PATHS.time = Math.min(PATHS.time, PATHS.steps);
    this.timeline.max = PATHS.steps;
    this.explain();
    this.draw();
  }

  // The legend: which mark is whose. Dialects are named where there are several.
  explain() {
    const mixed = new Set(PATHS.runs.map(({ key }) => OPTIMIZERS[key].dialect)).size > 1;
    const text = ({ key }) =>
      OPTIMIZERS[key].name +
      (mixed ? ` (${named(`dialect_${OPTIMIZERS[key].dialect}`, OPTIMIZERS[key].dialect)})` : "");
    const wanted = PATHS.runs.map((run) => `${run.number} ${text(run)}`).join();
    if (this.legend.dataset.shown === wanted) return;
    this.legend.dataset.shown = wanted;
    this.legend.replaceChildren(
      ...PATHS.runs.map((run) => element("li", {}, emptyMark(), text(run))),
    );
    PATHS.runs.forEach((run, i) => sign(this.legend.children[i].firstChild, run.number));
  }

  choose(name) {
    PATHS.surface = name;
    const { start, steps, noise } = surfaceNow();
    Object.assign(PATHS, { start: [...start], steps, noise: noise ?? 0, time: 0 });
    this.pen = [...start];
    this.choice.value = name;
    for (const [id, box] of Object.entries(this.boxes)) {
      box.value = PATHS[id];
      judge(box, "");
    }
    for (const run of PATHS.runs) {
      run.h.lr = rateOnSurface(OPTIMIZERS[run.key]) ?? run.h.lr;
      run.card.showRate();
    }
    for (const each of document.querySelectorAll(".only-noisy")) each.hidden = noise === undefined;
    for (const each of document.querySelectorAll(".only-drawn")) each.hidden = name !== "drawn";
    this.background.shown = false;
    this.useTool(PATHS.tool);
    this.recompute();
  }

  useTool(tool) {
    PATHS.tool = tool;
    for (const button of document.querySelectorAll("[data-tool]"))
      button.setAttribute("aria-pressed", button.dataset.tool === tool);
    this.map.classList.toggle("drawing", drawing());
    this.hint.textContent = t(drawing() ? "hint_draw" : "hint_start");
  }

  // Dig or raise at a point, unless it is close to the last one. Returns where that was last done.
  dent([x, y], last) {
    if (last && Math.hypot(x - last[0], y - last[1]) < WIDTH / 2) return last;
    const { dents } = SURFACES.drawn;
    dents.push([x, y, PATHS.tool === "dig" ? -0.4 : 0.4]);
    if (dents.length > 300) dents.shift();
    this.background.shown = false;
    this.recompute();
    return [x, y];
  }

  moveStart(point) {
    const [left, right, bottom, top] = surfaceNow().view;
    PATHS.start = [clamp(point[0], left, right), clamp(point[1], bottom, top)];
    this.recompute();
  }

  // Where on the surface the pointer is.
  pointed(event) {
    const [left, right, bottom, top] = surfaceNow().view;
    const box = this.map.getBoundingClientRect();
    const x = left + ((event.clientX - box.left) / box.width) * (right - left);
    const y = top - ((event.clientY - box.top) / box.height) * (top - bottom);
    return [x, y].map((value) => Number(value.toPrecision(3)));
  }

  draw(moving = false) {
    this.drawMap();
    drawDescent(this.descent, surfaceNow(), PATHS);
    const step = Math.floor(PATHS.time);
    if (!moving || step !== this.shown) this.drawStep(step);
    this.shown = step;
  }

  drawMap() {
    const shownPen = drawing() && document.activeElement === this.map ? this.pen : null;
    drawPaths(this.map, this.background, surfaceNow(), PATHS, shownPen);
  }

  drawStep(step) {
    this.timeline.value = step;
    this.timeline.setAttribute("aria-valuetext", `${step} / ${PATHS.steps}`);
    this.timeText.textContent = `${step} / ${PATHS.steps}`;
    for (const run of PATHS.runs) {
      this.drawState(run, step);
      this.drawStatus(run, step);
    }
  }

  // Position, gradient and slots after a step, in the table on the card.
  drawState(run, step) {
    const columns = { theta: run.path.position, gradient: run.path.grad, ...run.path.slots };
    const names = Object.keys(columns);
    if (run.rows?.join() !== names.join()) {
      run.rows = names;
      run.cells = names.map(() => [element("td"), element("td")]);
      run.body.replaceChildren(
        ...names.map((name, i) => element("tr", {}, stateName(name), ...run.cells[i])),
      );
      translate(run.body);
    }
    names.forEach((name, i) =>
      run.cells[i].forEach((cell, j) => (cell.textContent = written(columns[name][2 * step + j]))),
    );
  }

  // The value of the surface after a step, and whether the path is still in the picture.
  drawStatus(run, step) {
    const value = run.values[step];
    const [x, y] = run.path.position.subarray(2 * step, 2 * step + 2);
    const [left, right, bottom, top] = surfaceNow().view;
    const outside = x < left || x > right || y < bottom || y > top;
    run.status.classList.toggle("bad", !Number.isFinite(value) || outside);
    const key = !Number.isFinite(value) ? "not_finite" : outside ? "left_picture" : "the_step";
    run.status.textContent = t(key, { step, value: written(value) });
  }

  redraw() {
    this.background.shown = false;
    this.useTool(PATHS.tool);
    PATHS.runs.forEach((run) => run.sign());
    delete this.legend.dataset.shown;
    this.explain();
    this.draw();
  }

  // All steps together take about eight seconds, but no step takes more than a sixth of a second.
  advance(seconds) {
    PATHS.time = Math.min(PATHS.steps, PATHS.time + seconds * Math.max(6, PATHS.steps / 8));
    this.draw(true);
    return PATHS.time < PATHS.steps;
  }

  step(count) {
    PATHS.time = clamp(Math.floor(PATHS.time) + count, 0, PATHS.steps);
    this.draw();
  }

  restart() {
    PATHS.time = 0;
    this.draw();
  }

  begin() {
    if (PATHS.time >= PATHS.steps) PATHS.time = 0;
  }
}
