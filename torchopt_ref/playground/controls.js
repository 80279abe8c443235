// What both sections are made of: elements, sliders, the card of an optimizer, canvases.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "data") Object.assign(made.dataset, value);
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// How positions of a slider become numbers, and back. A scale has most, value(position) and
// position(value). Twenty positions are a factor of ten.
function logarithmic(low, high, zero) {
  const first = zero ? 1 : 0;
  const most = 20 * (high - low) + first;
  return {
    most,
    value: (position) =>
      position < first ? 0 : Number((10 ** (low + (position - first) / 20)).toPrecision(2)),
    position: (value) =>
      value > 0 ? clamp(Math.round(20 * (Math.log10(value) - low)) + first, 0, most) : 0,
  };
}

// Numbers below 1, in steps that become smaller towards 1: 0, ... 0.9, ... 0.99, ... 0.9999.
const REMEMBERING = {
  most: 80,
  value: (position) => Number((1 - Number((10 ** (-position / 20)).toPrecision(2))).toFixed(6)),
  position: (value) => (value < 1 ? clamp(Math.round(-20 * Math.log10(1 - value)), 0, 80) : 80),
};

function linear(most, step) {
  return {
    most: Math.round(most / step),
    value: (position) => Number((position * step).toPrecision(6)),
    position: (value) => clamp(Math.round(value / step), 0, Math.round(most / step)),
  };
}

function clamp(value, least, most) {
  return Math.min(Math.max(value, least), most);
}

const DECADES = {
  lr: [-4, 1],
  eps: [-12, 0],
  eps_root: [-12, 0],
  weight_decay: [-5, 0],
  lr_decay: [-4, 0],
  initial_accumulator_value: [-4, 1],
  initial_scale: [-4, 1],
};

// The scale of a hyper-parameter whose default is value.
function scaleOf(name, value, { below, zero }) {
  if (name in DECADES) return logarithmic(...DECADES[name], zero ?? true);
  if (name === "dampening") return linear(1, 0.01);
  if (name === "momentum" || below === 1 || (value >= 0.5 && value < 1)) return REMEMBERING;
  return logarithmic(-6, 1, zero ?? true);
}

// The key of the words that say what is wrong with a number; null for a valid one.
function wrong(value, { least, zero, below, most }) {
  if (!Number.isFinite(value)) return "any_number";
  if (most !== undefined) return value < least || value > most ? "between" : null;
  if (below !== undefined) return value < 0 || value >= below ? "within" : null;
  if (least !== undefined && value < least) return zero ? "at_least" : "more_than";
  if (value === 0 && zero === false) return "more_than";
  return null;
}

let sliders = 0;

// A labelled slider with a number that can be typed. changed(value) is called for a valid one.
function slider(words, code, value, scale, range, changed) {
  const id = `slider-${++sliders}`;
  const bar = element("input", { type: "range", min: 0, max: scale.most, step: 1, id });
  const number = element("input", {
    type: "text",
    inputMode: "decimal",
    autocomplete: "off",
    "aria-labelledby": `${id}-name`,
  });
  const message = element("span", { className: "wrong", role: "status", data: range });
  const judge = (key) => {
    number.setAttribute("aria-invalid", key !== null);
    message.textContent = key === null ? "" : t(key, range);
    if (key === null) delete message.dataset.t;
    else message.dataset.t = key;
  };
  const show = (shown) => {
    bar.value = scale.position(shown);
    bar.setAttribute("aria-valuetext", shown);
    number.value = shown;
    judge(null);
  };
  bar.addEventListener("input", () => {
    const moved = scale.value(Number(bar.value));
    number.value = moved;
    bar.setAttribute("aria-valuetext", moved);
    judge(wrong(moved, range));
    if (wrong(moved, range) === null) changed(moved);
  });
  number.addEventListener("input", () => {
    const typed = number.value.trim() === "" ? NaN : Number(number.value);
    judge(wrong(typed, range));
    if (wrong(typed, range) !== null) return;
    bar.value = scale.position(typed);
    bar.setAttribute("aria-valuetext", typed);
    changed(typed);
  });
  show(value);
  const name = element("label", { htmlFor: id, id: `${id}-name` });
  if (words in WORDS.en)
    name.append(
      element("span", { data: { t: words } }),
      element("small", {}, element("code", {}, code)),
    );
  else name.append(element("code", {}, code));
  if (code === "") name.lastChild.remove();
  const made = element(
    "div",
    { className: "slider", data: { hyper: code } },
    name,
    bar,
    number,
    message,
  );
  made.show = show;
  return made;
}

// The hyper-parameters to begin with: the defaults, but for the learning rate.
function beginning(optimizer, rate) {
  const h = defaults(optimizer);
  return { ...h, lr: rate(optimizer) ?? h.lr };
}

// A card in which one optimizer is chosen. run is { key, h }, which the card changes: it then calls
// then(). rate(optimizer) is the learning rate to begin with.
function optimizerCard(run, rate, then) {
  const card = element("section", { className: "card" });
  const header = element("header");
  const dialects = [...new Set(Object.values(OPTIMIZERS).map(({ dialect }) => dialect))];
  const dialect = element("select", { data: { label: "dialect" } });
  for (const name of dialects)
    dialect.append(
      element("option", { value: name, data: { named: `dialect_${name}`, name } }, name),
    );
  const choice = element("select", { data: { label: "optimizer" } });
  const hyper = element("div");
  const code = element("pre", { tabIndex: 0, data: { label: "code" } });

  const showCode = () => {
    code.textContent = formOf(OPTIMIZERS[run.key], run.h).step.toString();
  };
  const changed = () => {
    showCode();
    then();
  };
  const choose = (key) => {
    run.key = key;
    run.h = beginning(OPTIMIZERS[key], rate);
    card.rebuild();
    changed();
  };
  dialect.addEventListener("change", () => {
    const method = methodOf(OPTIMIZERS[run.key]);
    const [first, ...others] = Object.keys(OPTIMIZERS).filter(
      (key) => OPTIMIZERS[key].dialect === dialect.value,
    );
    choose([first, ...others].find((key) => methodOf(OPTIMIZERS[key]) === method) ?? first);
  });
  choice.addEventListener("change", () => choose(choice.value));

  // Everything that depends on which optimizer it is.
  card.rebuild = () => {
    const optimizer = OPTIMIZERS[run.key];
    dialect.value = optimizer.dialect;
    const entries = Object.entries(OPTIMIZERS).filter(
      ([, each]) => each.dialect === optimizer.dialect,
    );
    choice.replaceChildren(
      ...entries.map(([key, { name }]) => element("option", { value: key }, name)),
    );
    choice.value = run.key;
    const made = Object.entries(optimizer.hyper).flatMap(([name, range]) =>
      hyperControls(run, name, range, changed),
    );
    const rest = element("details", { open: hyper.querySelector("details")?.open ?? false });
    rest.append(element("summary", { data: { t: "all_hyper" } }), ...made.slice(1));
    hyper.replaceChildren(made[0]);
    if (made.length > 1) hyper.append(rest);
    translate(card);
  };
  // The learning rate, moved from outside.
  card.showRate = () => hyper.querySelector('[data-hyper="lr"]')?.show(run.h.lr);
  header.append(dialect, choice);
  card.append(header, hyper);
  card.header = header;
  card.code = element("details", {}, element("summary", { data: { t: "code" } }), code);
  card.rebuild();
  showCode();
  return card;
}

// The controls of one hyper-parameter: a check box, a slider, or a slider for each of its numbers.
function hyperControls(run, name, range, changed) {
  const { value } = range;
  if (typeof value === "boolean") {
    const box = element("input", { type: "checkbox", checked: run.h[name], data: { hyper: name } });
    box.addEventListener("change", () => {
      run.h[name] = box.checked;
      changed();
    });
    const words = element(
      "span",
      {},
      element("span", { data: { named: name, name } }),
      " ",
      element("code", {}, name),
    );
    return [element("label", { className: "check" }, box, words)];
  }
  if (Array.isArray(value)) {
    return value.map((each, i) =>
      slider(
        `${name}.${i}`,
        `${name}[${i}]`,
        run.h[name][i],
        scaleOf(name, each, range),
        range,
        (given) => {
          run.h[name][i] = given;
          changed();
        },
      ),
    );
  }
  return [
    slider(name, name, run.h[name], scaleOf(name, value, range), range, (given) => {
      run.h[name] = given;
      changed();
    }),
  ];
}

// A canvas's context, in CSS pixels whatever the screen's density, and its size in these.
function fitted(canvas) {
  const density = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  const wide = Math.round(width * density);
  const high = Math.round(height * density);
  if (canvas.width !== wide || canvas.height !== high)
    Object.assign(canvas, { width: wide, height: high });
  const context = canvas.getContext("2d");
  context.setTransform(density, 0, 0, density, 0, 0);
  return { context, width, height };
}

// The page's colours, light or dark, as the style sheet has them.
let theme = {};
function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const names = [
    "ink",
    "soft",
    "line",
    "paper",
    "ground",
    "low",
    "high",
    "contour",
    "one",
    "two",
    "accent",
  ];
  theme = Object.fromEntries(
    names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
  );
  theme.runs = [0, 1, 2, 3, 4, 5].map((i) => style.getPropertyValue(`--c${i}`).trim());
}

// Red, green and blue of a colour such as #8fb4e3 or #fff.
function channels(color) {
  const digits =
    color.length === 4
      ? [...color.slice(1)].map((digit) => digit + digit).join("")
      : color.slice(1);
  return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16));
}

// The mark of an optimizer: a shape of its own beside a colour of its own.
function mark(context, number, x, y, size) {
  context.beginPath();
  if (number === 0) context.arc(x, y, size, 0, 2 * Math.PI);
  else {
    const corners = [4, 3, 4, 5, 6][number - 1];
    const turn = number === 1 ? Math.PI / 4 : -Math.PI / 2;
    for (let i = 0; i < corners; i++) {
      const angle = turn + (2 * Math.PI * i) / corners;
      context.lineTo(x + 1.2 * size * Math.cos(angle), y + 1.2 * size * Math.sin(angle));
    }
    context.closePath();
  }
  context.fillStyle = theme.runs[number];
  context.fill();
  context.lineWidth = 2;
  context.strokeStyle = theme.paper;
  context.stroke();
}
