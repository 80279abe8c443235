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
  const background = document.createElement("canvas");
  let shaded = false; // whether the background shows the surface as it is
  let pen = [0, 0]; // where the keyboard draws

  const surface = () => SURFACES[PATHS.surface];
  const rate = (optimizer) => surface().rates[optimizer.name];

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

  function choose(name) {
    PATHS.surface = name;
    const { start, steps, noise } = surface();
    Object.assign(PATHS, { start: [...start], steps, noise: noise ?? 0, time: 0 });
    pen = [...start];
    find("surface").value = name;
    find("steps").value = steps;
    find("noise").value = PATHS.noise;
    for (const run of PATHS.runs) {
      run.h.lr = rate(OPTIMIZERS[run.key]) ?? run.h.lr;
      run.card.showRate();
    }
    for (const each of document.querySelectorAll(".only-noisy")) each.hidden = noise === undefined;
    for (const each of document.querySelectorAll(".only-drawn")) each.hidden = name !== "drawn";
    shaded = false;
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
    shaded = false;
    recompute();
    return [x, y];
  }

  function moveStart(point) {
    const [left, right, bottom, top] = surface().view;
    PATHS.start = [clamp(point[0], left, right), clamp(point[1], bottom, top)];
    recompute();
  }

  // From the surface's coordinates to the picture's, and back.
  const across = (x, width) =>
    ((x - surface().view[0]) / (surface().view[1] - surface().view[0])) * width;
  const down = (y, height) =>
    ((surface().view[3] - y) / (surface().view[3] - surface().view[2])) * height;
  function pointed(event) {
    const [left, right, bottom, top] = surface().view;
    const box = map.getBoundingClientRect();
    const x = left + ((event.clientX - box.left) / box.width) * (right - left);
    const y = top - ((event.clientY - box.top) / box.height) * (top - bottom);
    return [x, y].map((value) => Number(value.toPrecision(3)));
  }

  // The surface: bands of colour between the levels, and the contours on them.
  function shade(width, height) {
    const columns = 161;
    const rows = 111;
    const values = sampled(surface(), columns, rows);
    const found = levels(values, 18);
    const image = new ImageData(Math.max(1, width), Math.max(1, height));
    const [low, high] = [channels(theme.low), channels(theme.high)];
    for (let v = 0; v < height; v++) {
      const j = (1 - v / height) * (rows - 1);
      const below = Math.min(Math.floor(j), rows - 2);
      for (let u = 0; u < width; u++) {
        const i = (u / width) * (columns - 1);
        const k = Math.floor(i) + below * columns;
        const [a, b] = [i % 1, j - below];
        const value =
          (1 - b) * ((1 - a) * values[k] + a * values[k + 1]) +
          b * ((1 - a) * values[k + columns] + a * values[k + columns + 1]);
        let band = 0;
        while (band < found.length && value > found[band]) band++;
        const part = band / found.length;
        for (let c = 0; c < 3; c++)
          image.data[4 * (v * width + u) + c] = low[c] + part * (high[c] - low[c]);
        image.data[4 * (v * width + u) + 3] = 255;
      }
    }
    const plain = document.createElement("canvas");
    Object.assign(plain, { width: image.width, height: image.height });
    plain.getContext("2d").putImageData(image, 0, 0);
    Object.assign(background, { width: map.width, height: map.height });
    const context = background.getContext("2d");
    context.drawImage(plain, 0, 0, map.width, map.height);
    context.scale(map.width / width, map.height / height);
    context.strokeStyle = theme.contour;
    context.lineWidth = 1;
    context.beginPath();
    for (const level of found) {
      contour(values, columns, rows, level, (x1, y1, x2, y2) => {
        context.moveTo((x1 / (columns - 1)) * width, (1 - y1 / (rows - 1)) * height);
        context.lineTo((x2 / (columns - 1)) * width, (1 - y2 / (rows - 1)) * height);
      });
    }
    context.stroke();
    axes(context, width, height);
    shaded = true;
  }

  function axes(context, width, height) {
    const [left, right, bottom, top] = surface().view;
    context.fillStyle = theme.soft;
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "center";
    const step = (low, high) => [0.5, 1, 2, 5].find((size) => (high - low) / size <= 8) ?? 10;
    for (
      let x = Math.ceil(left / step(left, right) + 0.01) * step(left, right);
      x < right;
      x += step(left, right)
    ) {
      context.fillText(`${written(x)}`, across(x, width), height - 5);
    }
    context.textAlign = "left";
    for (
      let y = Math.ceil(bottom / step(bottom, top) + 0.01) * step(bottom, top);
      y < top;
      y += step(bottom, top)
    ) {
      context.fillText(`${written(y)}`, 5, down(y, height) + 4);
    }
    context.font = "italic 13px system-ui, sans-serif";
    context.fillText("x", width - 14, height - 6);
    context.fillText("y", 6, 15);
    context.strokeStyle = theme.ink;
    context.lineWidth = 1.5;
    for (const [x, y] of surface().minima) {
      const [u, v] = [across(x, width), down(y, height)];
      context.beginPath();
      context.moveTo(u - 6, v);
      context.lineTo(u + 6, v);
      context.moveTo(u, v - 6);
      context.lineTo(u, v + 6);
      context.stroke();
    }
  }

  // Where a run stands at a time between two steps.
  function standing({ path }, time) {
    const k = Math.min(Math.floor(time), PATHS.steps);
    const next = Math.min(k + 1, PATHS.steps);
    const part = time - k;
    return [0, 1].map(
      (i) =>
        path.position[2 * k + i] + part * (path.position[2 * next + i] - path.position[2 * k + i]),
    );
  }

  // Far outside the picture a canvas draws nothing sensible.
  const held = (value) => clamp(value, -20000, 20000);

  function drawMap() {
    const { context, width, height } = fitted(map);
    if (!width) return;
    if (!shaded || background.width !== map.width || background.height !== map.height)
      shade(width, height);
    context.drawImage(background, 0, 0, width, height);
    const whole = Math.floor(PATHS.time);
    const dots = PATHS.steps <= 150;
    context.lineJoin = "round";
    for (const run of PATHS.runs) {
      const { position } = run.path;
      context.strokeStyle = context.fillStyle = theme.runs[run.number];
      context.lineWidth = 2;
      context.beginPath();
      for (let k = 0; k <= whole; k++) {
        const x = position[2 * k];
        const y = position[2 * k + 1];
        if (!Number.isFinite(x + y)) break;
        context.lineTo(held(across(x, width)), held(down(y, height)));
      }
      const head = standing(run, PATHS.time);
      if (Number.isFinite(head[0] + head[1]))
        context.lineTo(held(across(head[0], width)), held(down(head[1], height)));
      context.stroke();
      if (!dots) continue;
      context.beginPath();
      for (let k = 1; k <= whole; k++) {
        const x = held(across(position[2 * k], width));
        const y = held(down(position[2 * k + 1], height));
        context.moveTo(x, y);
        context.arc(x, y, 2.4, 0, 2 * Math.PI);
      }
      context.fill();
    }
    for (const run of PATHS.runs) {
      const [x, y] = standing(run, PATHS.time);
      if (Number.isFinite(x + y))
        mark(context, run.number, held(across(x, width)), held(down(y, height)), 6.5);
    }
    context.strokeStyle = theme.ink;
    context.lineWidth = 2;
    context.beginPath();
    context.arc(across(PATHS.start[0], width), down(PATHS.start[1], height), 9, 0, 2 * Math.PI);
    context.stroke();
    if (drawing() && document.activeElement === map) {
      context.strokeRect(across(pen[0], width) - 7, down(pen[1], height) - 7, 14, 14);
    }
  }

  // The values over the steps; their scale is logarithmic where no value is below 0.
  function drawDescent() {
    const { context, width, height } = fitted(descent);
    context.clearRect(0, 0, width, height);
    if (PATHS.runs.length === 0) return;
    const all = PATHS.runs.flatMap((run) => [...run.values]).filter(Number.isFinite);
    const highest = Math.max(surface().at(...PATHS.start)[0], 1e-12);
    const logs = Math.min(...all) >= 0;
    const least = logs
      ? Math.log10(clamp(Math.min(...all), highest * 1e-6, highest / 10))
      : Math.min(...all);
    const most = logs ? Math.log10(highest) + 0.3 : highest * 1.1;
    const left = 44;
    const bottom = height - 6;
    const place = (k) => left + (k / PATHS.steps) * (width - left - 8);
    const high = (value) => {
      const scaled = logs ? Math.log10(Math.max(value, 1e-300)) : value;
      return clamp(bottom - ((scaled - least) / (most - least)) * (bottom - 20), 14, bottom);
    };
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = theme.soft;
    context.textAlign = "left";
    context.fillText(t("descent_axis"), left, 10);
    context.textAlign = "right";
    context.strokeStyle = theme.line;
    context.lineWidth = 1;
    const ticks = logs
      ? [0, 1, 2].map((i) => 10 ** Math.round(least + ((most - least) * i) / 2.2))
      : [least, (least + highest) / 2, highest];
    for (const value of new Set(ticks)) {
      context.fillText(written(Number(value.toPrecision(2))), left - 6, high(value) + 4);
      context.beginPath();
      context.moveTo(left, high(value));
      context.lineTo(width - 8, high(value));
      context.stroke();
    }
    context.lineWidth = 1.8;
    for (const run of PATHS.runs) {
      context.strokeStyle = theme.runs[run.number];
      context.beginPath();
      for (let k = 0; k <= PATHS.steps && Number.isFinite(run.values[k]); k++)
        context.lineTo(place(k), high(run.values[k]));
      context.stroke();
    }
    context.strokeStyle = theme.ink;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(place(PATHS.time), 14);
    context.lineTo(place(PATHS.time), bottom);
    context.stroke();
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
    drawDescent();
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
      target.setAttribute("aria-invalid", !fits);
      target.setCustomValidity(fits ? "" : t("between", { least, most }));
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
    shaded = false;
    recompute();
  });
  timeline.addEventListener("input", () => {
    pause();
    PATHS.time = Number(timeline.value);
    draw();
  });

  let last = null; // where the pointer last drew; null while it is up
  map.addEventListener("pointerdown", (event) => {
    map.setPointerCapture(event.pointerId);
    last = drawing() ? dent(pointed(event), null) : pointed(event);
    if (!drawing()) moveStart(last);
  });
  map.addEventListener("pointermove", (event) => {
    if (last === null) return;
    if (drawing()) last = dent(pointed(event), last);
    else moveStart(pointed(event));
  });
  for (const end of ["pointerup", "pointercancel"]) map.addEventListener(end, () => (last = null));
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
      shaded = false;
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
