// The first section: paths of several optimizers down a surface.

const MOST_RUNS = 6;
const PATHS = {
  surface: "valley",
  tool: "dig",
  time: 0, // in steps; not a whole number while it plays
  runs: [], // { key, h, number, path, card, cells }
};

function paths() {
  const find = (id) => document.getElementById(id);
  const map = find("map");
  const descent = find("descent");
  const timeline = find("time");
  const cards = find("cards");
  const background = { canvas: document.createElement("canvas"), shown: false };
  let pen = [0, 0]; // where the keyboard draws

  const surface = () => SURFACES[PATHS.surface];
  const rate = (optimizer) => surface().rates[methodOf(optimizer)];

  // Everything that follows from the settings: the paths are walked again, whole.
  function recompute() {
    const noise = surface().noise === undefined ? 0 : PATHS.noise;
    for (const run of PATHS.runs) {
      run.path = walk(
        OPTIMIZERS[run.key],
        run.h,
        surface(),
        PATHS.start,
        PATHS.steps,
        noise,
        PATHS.seed,
      );
      run.values = Float64Array.from(
        { length: PATHS.steps + 1 },
        (_, k) => surface().at(run.path.position[2 * k], run.path.position[2 * k + 1])[0],
      );
      run.rows = null;
    }
    PATHS.time = Math.min(PATHS.time, PATHS.steps);
    timeline.max = PATHS.steps;
    explain();
    draw();
  }

  // Which mark is whose. A dialect is named where there are several.
  function explain() {
    const mixed = new Set(PATHS.runs.map(({ key }) => OPTIMIZERS[key].dialect)).size > 1;
    const text = ({ key }) =>
      OPTIMIZERS[key].name +
      (mixed ? ` (${named(`dialect_${OPTIMIZERS[key].dialect}`, OPTIMIZERS[key].dialect)})` : "");
    const wanted = PATHS.runs.map((run) => `${run.number} ${text(run)}`).join();
    if (find("legend").dataset.shown === wanted) return;
    find("legend").dataset.shown = wanted;
    find("legend").replaceChildren(
      ...PATHS.runs.map((run) =>
        element(
          "li",
          {},
          element("canvas", { className: "mark", "aria-hidden": "true" }),
          text(run),
        ),
      ),
    );
    PATHS.runs.forEach((run, i) => sign(find("legend").children[i].firstChild, run.number));
  }

  function sign(canvas, number) {
    const { context, width, height } = fitted(canvas);
    context.clearRect(0, 0, width, height);
    mark(context, number, width / 2, height / 2, 6.5);
  }

  function judge(box, wrong) {
    box.setAttribute("aria-invalid", wrong !== "");
    box.setCustomValidity(wrong);
  }

  function choose(name) {
    PATHS.surface = name;
    const { start, steps, noise } = surface();
    Object.assign(PATHS, { start: [...start], steps, noise: noise ?? 0, time: 0 });
    pen = [...start];
    find("surface").value = name;
    for (const id of ["steps", "noise"]) {
      find(id).value = PATHS[id];
      judge(find(id), "");
    }
    for (const run of PATHS.runs) {
      run.h.lr = rate(OPTIMIZERS[run.key]) ?? run.h.lr;
      run.card.showRate();
    }
    for (const each of document.querySelectorAll(".only-noisy")) each.hidden = noise === undefined;
    for (const each of document.querySelectorAll(".only-drawn")) each.hidden = name !== "drawn";
    background.shown = false;
    useTool(PATHS.tool);
    recompute();
  }

  function useTool(tool) {
    PATHS.tool = tool;
    for (const button of document.querySelectorAll("[data-tool]"))
      button.setAttribute("aria-pressed", button.dataset.tool === tool);
    map.classList.toggle("drawing", drawing());
    find("map-hint").textContent = t(drawing() ? "hint_draw" : "hint_start");
  }

  const drawing = () => PATHS.surface === "drawn" && PATHS.tool !== "start";

  // Dig or raise at a point, if it is not where that was just done.
  function dent([x, y], last) {
    if (last && Math.hypot(x - last[0], y - last[1]) < WIDTH / 2) return last;
    const { dents } = SURFACES.drawn;
    dents.push([x, y, PATHS.tool === "dig" ? -0.4 : 0.4]);
    if (dents.length > 300) dents.shift();
    background.shown = false;
    recompute();
    return [x, y];
  }

  function moveStart(point) {
    const [left, right, bottom, top] = surface().view;
    PATHS.start = [clamp(point[0], left, right), clamp(point[1], bottom, top)];
    recompute();
  }

  function pointed(event) {
    const [left, right, bottom, top] = surface().view;
    const box = map.getBoundingClientRect();
    const x = left + ((event.clientX - box.left) / box.width) * (right - left);
    const y = top - ((event.clientY - box.top) / box.height) * (top - bottom);
    return [x, y].map((value) => Number(value.toPrecision(3)));
  }

  function drawMap() {
    const shownPen = drawing() && document.activeElement === map ? pen : null;
    drawPaths(map, background, surface(), PATHS, shownPen);
  }

  // The state after a step beside each optimizer.
  function drawState(step) {
    timeline.value = step;
    timeline.setAttribute("aria-valuetext", `${step} / ${PATHS.steps}`);
    find("time-text").textContent = `${step} / ${PATHS.steps}`;
    for (const run of PATHS.runs) {
      const columns = { theta: run.path.position, gradient: run.path.grad, ...run.path.slots };
      const names = Object.keys(columns);
      if (run.rows?.join() !== names.join()) {
        run.rows = names;
        run.cells = names.map(() => [element("td"), element("td")]);
        run.body.replaceChildren(
          ...names.map((name, i) => element("tr", {}, stateName(name), ...run.cells[i])),
        );
        translate();
      }
      names.forEach((name, i) =>
        run.cells[i].forEach(
          (cell, j) => (cell.textContent = written(columns[name][2 * step + j])),
        ),
      );
      const value = run.values[step];
      const [x, y] = run.path.position.subarray(2 * step, 2 * step + 2);
      const [left, right, bottom, top] = surface().view;
      const outside = x < left || x > right || y < bottom || y > top;
      run.status.classList.toggle("bad", !Number.isFinite(value) || outside);
      const key = !Number.isFinite(value) ? "not_finite" : outside ? "left_picture" : "the_step";
      run.status.textContent = t(key, { step, value: written(value) });
    }
  }

  function stateName(name) {
    if (name === "theta" || name === "gradient")
      return element("th", { scope: "row", data: { t: name } });
    return element(
      "th",
      { scope: "row", title: name, data: { named: `slot_${name}`, name } },
      name,
    );
  }

  let shown = null; // the step whose state is shown
  function draw(moving = false) {
    drawMap();
    drawDescent(descent, surface(), PATHS);
    const step = Math.floor(PATHS.time);
    if (!moving || step !== shown) drawState(step);
    shown = step;
  }

  function add(key) {
    const used = PATHS.runs.map(({ number }) => number);
    const number = [...Array(MOST_RUNS).keys()].find((each) => !used.includes(each));
    const run = { key, number, h: beginning(OPTIMIZERS[key], rate) };
    run.card = optimizerCard(run, rate, recompute);
    const own = element("canvas", { className: "mark", "aria-hidden": "true" });
    const remove = element(
      "button",
      { type: "button", className: "remove", data: { label: "remove" } },
      "×",
    );
    remove.addEventListener("click", () => {
      PATHS.runs.splice(PATHS.runs.indexOf(run), 1);
      run.card.remove();
      more.disabled = false;
      more.focus();
      recompute();
    });
    run.card.header.prepend(own);
    run.card.header.append(remove);
    run.status = element("p", { className: "status" });
    run.body = element("tbody");
    const head = element(
      "thead",
      {},
      element(
        "tr",
        {},
        element("th", { scope: "col", data: { t: "state_what" } }),
        ...["x", "y"].map((axis) => element("th", { scope: "col" }, axis)),
      ),
    );
    run.card.append(run.status, element("table", {}, head, run.body), run.card.code);
    run.sign = () => sign(own, number);
    PATHS.runs.push(run);
    cards.insertBefore(run.card, more);
    more.disabled = PATHS.runs.length === MOST_RUNS;
    run.sign();
  }

  const more = element("button", { type: "button", data: { t: "add" } });
  more.addEventListener("click", () => {
    add("Adam" in OPTIMIZERS ? "Adam" : Object.keys(OPTIMIZERS)[0]);
    recompute();
    PATHS.runs.at(-1).card.querySelector("select").focus();
    translate();
  });
  cards.append(more);

  find("surface").append(
    ...Object.keys(SURFACES).map((name) => element("option", { value: name, data: { t: name } })),
  );
  find("surface").addEventListener("change", (event) => choose(event.target.value));
  for (const [id, least, most, round] of [
    ["steps", 1, 1000, true],
    ["noise", 0, 10, false],
    ["seed", 0, 999999, true],
  ]) {
    find(id).addEventListener("input", ({ target }) => {
      const value = target.valueAsNumber;
      const fits = value >= least && value <= most && (!round || Number.isInteger(value));
      judge(target, fits ? "" : t("between", { least, most }));
      if (!fits) return target.reportValidity();
      PATHS[id] = value;
      recompute();
    });
  }
  PATHS.seed = 1;
  find("seed").value = PATHS.seed;
  for (const button of document.querySelectorAll("[data-tool]"))
    button.addEventListener("click", () => useTool(button.dataset.tool));
  find("flatten").addEventListener("click", () => {
    SURFACES.drawn.dents.length = 0;
    background.shown = false;
    recompute();
  });
  timeline.addEventListener("input", () => {
    pause();
    PATHS.time = Number(timeline.value);
    draw();
  });

  let last = null; // where the pointer last drew; null while it is up
  let before = null; // the start before the pointer moved it
  map.addEventListener("pointerdown", (event) => {
    before = PATHS.start;
    map.setPointerCapture(event.pointerId);
    last = drawing() ? dent(pointed(event), null) : pointed(event);
    if (!drawing()) moveStart(last);
  });
  map.addEventListener("pointermove", (event) => {
    if (last === null) return;
    if (drawing()) last = dent(pointed(event), last);
    else moveStart(pointed(event));
  });
  map.addEventListener("pointerup", () => (last = null));
  map.addEventListener("pointercancel", () => {
    // The finger scrolls the page, and did not mean the start.
    if (last !== null && !drawing()) moveStart(before);
    last = null;
  });
  map.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[
      event.key
    ];
    const [left, right, bottom, top] = surface().view;
    if (move) {
      const from = drawing() ? pen : PATHS.start;
      const to = [
        from[0] + (move[0] * (right - left)) / 50,
        from[1] + (move[1] * (top - bottom)) / 50,
      ];
      if (drawing()) {
        pen = [clamp(to[0], left, right), clamp(to[1], bottom, top)];
        drawMap();
      } else moveStart(to.map((value) => Number(value.toPrecision(3))));
    } else if (event.key === "Enter" && drawing()) dent(pen, null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  map.addEventListener("focus", drawMap);
  map.addEventListener("blur", drawMap);

  for (const name of ["SGD", "Momentum", "AdaGrad", "RMSprop", "Adam"])
    add(`book.${name}` in OPTIMIZERS ? `book.${name}` : name);
  choose("valley");

  return {
    draw,
    choose,
    redraw: () => {
      background.shown = false;
      useTool(PATHS.tool);
      PATHS.runs.forEach((run) => run.sign());
      delete find("legend").dataset.shown;
      explain();
      draw();
    },
    // All steps take about eight seconds, but no step more than a sixth of one.
    advance(seconds) {
      PATHS.time = Math.min(PATHS.steps, PATHS.time + seconds * Math.max(6, PATHS.steps / 8));
      draw(true);
      return PATHS.time < PATHS.steps;
    },
    step(count) {
      PATHS.time = clamp(Math.floor(PATHS.time) + count, 0, PATHS.steps);
      draw();
    },
    restart() {
      PATHS.time = 0;
      draw();
    },
    begin() {
      if (PATHS.time >= PATHS.steps) PATHS.time = 0;
    },
  };
}
