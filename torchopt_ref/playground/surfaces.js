// Functions of two variables. at(x, y) is [value, derivative in x, derivative in y];
// view is [left, right, bottom, top]. The learning rates are ones that suit the surface.

const SURFACES = {
  valley: {
    view: [-10, 10, -5, 5],
    start: [-7, 2],
    minima: [[0, 0]],
    steps: 60,
    rates: {
      SGD: 0.95,
      Momentum: 0.1,
      Nesterov: 0.1,
      AdaGrad: 1.5,
      RMSprop: 0.1,
      Adam: 0.3,
      AdamW: 0.3,
    },
    at: (x, y) => [(x * x) / 20 + y * y, x / 10, 2 * y],
  },
  rosenbrock: {
    view: [-2, 2, -1, 3],
    start: [-1.4, 2.2],
    minima: [[1, 1]],
    steps: 400,
    rates: {
      SGD: 0.001,
      Momentum: 0.0005,
      Nesterov: 0.0005,
      AdaGrad: 0.4,
      RMSprop: 0.02,
      Adam: 0.1,
      AdamW: 0.1,
    },
    at: (x, y) => {
      const off = y - x * x;
      return [(1 - x) ** 2 + 100 * off * off, -2 * (1 - x) - 400 * x * off, 200 * off];
    },
  },
  beale: {
    view: [-1, 4.5, -2, 2],
    start: [1, 1.6],
    minima: [[3, 0.5]],
    steps: 200,
    rates: {
      SGD: 0.01,
      Momentum: 0.005,
      Nesterov: 0.005,
      AdaGrad: 0.4,
      RMSprop: 0.03,
      Adam: 0.1,
      AdamW: 0.1,
    },
    at: (x, y) => {
      const a = 1.5 - x + x * y;
      const b = 2.25 - x + x * y ** 2;
      const c = 2.625 - x + x * y ** 3;
      return [
        a * a + b * b + c * c,
        2 * (a * (y - 1) + b * (y ** 2 - 1) + c * (y ** 3 - 1)),
        2 * x * (a + 2 * b * y + 3 * c * y ** 2),
      ];
    },
  },
  saddle: {
    view: [-4, 4, -3, 3],
    start: [-3.2, 0.002],
    minima: [
      [0, 2],
      [0, -2],
    ],
    steps: 100,
    rates: {
      SGD: 0.15,
      Momentum: 0.05,
      Nesterov: 0.05,
      AdaGrad: 0.4,
      RMSprop: 0.05,
      Adam: 0.15,
      AdamW: 0.15,
    },
    at: (x, y) => [(x * x) / 2 + y ** 4 / 16 - (y * y) / 2, x, y ** 3 / 4 - y],
  },
  noisy: {
    view: [-10, 10, -5, 5],
    start: [-7, 2],
    minima: [[0, 0]],
    steps: 120,
    noise: 1,
    rates: {
      SGD: 0.4,
      Momentum: 0.05,
      Nesterov: 0.05,
      AdaGrad: 1,
      RMSprop: 0.1,
      Adam: 0.2,
      AdamW: 0.2,
    },
    at: (x, y) => SURFACES.valley.at(x, y),
  },
  drawn: {
    view: [-6, 6, -4, 4],
    start: [-5, 3],
    minima: [],
    steps: 150,
    rates: {
      SGD: 0.3,
      Momentum: 0.05,
      Nesterov: 0.05,
      AdaGrad: 0.6,
      RMSprop: 0.05,
      Adam: 0.15,
      AdamW: 0.15,
    },
    dents: [
      [1.5, -1, -1],
      [2.2, -0.6, -1],
      [2.8, -0.1, -1],
      [-1.5, 1.2, 1],
    ], // x, y, height: a negative one is a hollow
    at: (x, y) => landscape(SURFACES.drawn.dents, x, y),
  },
};

const WIDTH = 0.8; // of a dent

// A shallow bowl, and what was drawn into it: hills and hollows with the profile of a Gaussian.
function landscape(dents, x, y) {
  let value = (x * x + y * y) / 40;
  let dx = x / 20;
  let dy = y / 20;
  for (const [left, bottom, height] of dents) {
    const across = (x - left) / WIDTH;
    const along = (y - bottom) / WIDTH;
    const distance = across * across + along * along;
    if (distance > 60) continue; // The bump is below 1e-13 there.
    const bump = height * Math.exp(-distance / 2);
    value += bump;
    dx -= (bump * across) / WIDTH;
    dy -= (bump * along) / WIDTH;
  }
  return [value, dx, dy];
}

// The path of an optimizer: positions, gradients and slots, two numbers for each step. At step 0
// stand the start, the first values of the slots, and a gradient of 0. The noise that is added to
// gradients depends on seed and step alone.
function walk(optimizer, h, surface, start, steps, noise = 0, seed = 0) {
  const param = Float64Array.from(start);
  const grad = new Float64Array(2);
  const state = newState();
  const random = generator(seed);
  const column = () => new Float64Array(2 * steps + 2);
  const path = { position: column(), grad: column(), slots: {} };
  path.position.set(param);
  for (const [name, value] of Object.entries(formOf(optimizer, h).slots(h))) {
    path.slots[name] = column().fill(value);
  }
  for (let t = 1; t <= steps; t++) {
    const [, dx, dy] = surface.at(param[0], param[1]);
    grad[0] = dx;
    grad[1] = dy;
    if (noise) {
      grad[0] += noise * normal(random);
      grad[1] += noise * normal(random);
    }
    takeStep(optimizer, h, state, param, grad);
    path.position.set(param, 2 * t);
    path.grad.set(grad, 2 * t);
    for (const [name, slot] of Object.entries(state.slots)) path.slots[name].set(slot, 2 * t);
  }
  return path;
}

// The function's values at the corners of a grid over the view, row by row from the bottom.
function sampled(surface, columns, rows) {
  const [left, right, bottom, top] = surface.view;
  const values = new Float64Array(columns * rows);
  for (let j = 0; j < rows; j++) {
    const y = bottom + ((top - bottom) * j) / (rows - 1);
    for (let i = 0; i < columns; i++) {
      values[j * columns + i] = surface.at(left + ((right - left) * i) / (columns - 1), y)[0];
    }
  }
  return values;
}

// Contour levels, with about equal parts of the picture between them, but smaller parts where the
// function is low.
function levels(values, count) {
  const sorted = Float64Array.from(values).sort();
  const found = [];
  for (let i = 1; i < count; i++) {
    found.push(sorted[Math.floor((sorted.length - 1) * (i / count) ** 1.4)]);
  }
  return [...new Set(found)];
}

// Calls line(x1, y1, x2, y2), in cells of the grid, for each piece of the contour (marching squares).
function contour(values, columns, rows, level, line) {
  for (let j = 0; j + 1 < rows; j++) {
    for (let i = 0; i + 1 < columns; i++) {
      const k = j * columns + i;
      const corners = [values[k], values[k + 1], values[k + columns + 1], values[k + columns]];
      const crossings = [];
      for (let side = 0; side < 4; side++) {
        const from = corners[side] - level;
        const to = corners[(side + 1) % 4] - level;
        if (from < 0 === to < 0) continue;
        const part = from / (from - to);
        crossings.push(
          side === 0
            ? [i + part, j]
            : side === 1
              ? [i + 1, j + part]
              : side === 2
                ? [i + 1 - part, j + 1]
                : [i, j + 1 - part],
        );
      }
      for (let c = 0; c + 1 < crossings.length; c += 2) line(...crossings[c], ...crossings[c + 1]);
    }
  }
}
