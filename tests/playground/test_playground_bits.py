"""The optimizers of the page against NumPy's, bit for bit, in a real browser."""

import base64
import inspect

import numpy as np
import pytest
import torch

from torchopt_ref.sides import KNOWN

STEPS, FEWER, SIZE = 1000, 200, 6
WALK = """
const [key, sets, start, gradients] = arguments;
const numbers = (text) =>
  new Float64Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const written = (array) => {
  const bytes = new Uint8Array(array.buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) {
    text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  }
  return btoa(text);
};
const optimizer = OPTIMIZERS[key];
const grads = numbers(gradients);
return sets.map((options) => {
  const h = { ...defaults(optimizer), ...options };
  const param = numbers(start);
  const state = newState();
  const found = [];
  const names = Object.keys(optimizer.forms[optimizer.form(h, 1, 0)].slots(h)).sort();
  for (let t = 0; t < grads.length / param.length; t++) {
    takeStep(optimizer, h, state, param, grads.subarray(t * param.length, (t + 1) * param.length));
    found.push(...param);
    for (const name of names) found.push(...state.slots[name]);
  }
  return [names, written(Float64Array.from(found))];
});
"""


def gradients():
    """Of many sizes; zeros of both signs; some that overflow, at the end what is no number.

    The last ``FEWER`` have all of it.
    """
    random = np.random.default_rng(0)
    grads = random.standard_normal((STEPS, SIZE)) * 10 ** random.uniform(-9, 4, (STEPS, SIZE))
    grads[:, 2] = np.where(random.random(STEPS) < 0.5, 0.0, -0.0)
    grads[::3, 3] = 0
    grads[:, 4] *= 1e-300
    grads[:, 5] *= 1e150
    grads[900:, 0] = np.resize([np.inf, -np.inf, np.nan, 1.0], STEPS - 900)
    return grads


def option_sets(known):
    """Those that parity is shown for, numbers at the ends of their ranges, and random ones."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(known.ours).parameters.items()
        if isinstance(parameter.default, (bool, float, int, tuple))
        if name not in ("differentiable", "capturable")
    }
    random = np.random.default_rng(len(known.name))

    def drawn(name, value):
        if isinstance(value, bool):
            return bool(random.random() < 0.5)
        if isinstance(value, tuple):
            return tuple(float(1 - 10 ** random.uniform(-5, 0)) for _ in value)
        if name in ("momentum", "alpha", "dampening"):
            return float(1 - 10 ** random.uniform(-5, 0)) if random.random() < 0.7 else 0.0
        return float(10 ** random.uniform(-5, 0)) if random.random() < 0.8 else 0.0

    numbers = {name: value for name, value in defaults.items() if not isinstance(value, bool)}
    yield from known.option_sets
    yield {name: not value for name, value in defaults.items() if isinstance(value, bool)}
    for name in numbers:
        yield {name: like(numbers[name], 0.0)}
    for end in (1e-12, float(np.nextafter(1, 0)), 1e200):
        yield {name: like(value, end) for name, value in numbers.items()}
    for _ in range(3):
        yield {name: drawn(name, value) for name, value in defaults.items()}


def like(value, number):
    return tuple(number for _ in value) if isinstance(value, tuple) else number


def accepted(known, options):
    """Whether our own class, and so the page's control, takes these options."""
    try:
        known.ours([torch.zeros(1, dtype=torch.float64)], **options)
    except ValueError:
        return False
    return True


def by_numpy(known, options, start, grads):
    optimizer, params = known.reference(**options), {"w": start.copy()}
    found = []
    for grad in grads:
        optimizer.update(params, {"w": grad})
        state = optimizer.state["w"]
        names = sorted(name for name in state if name != "step")
        found += [params["w"].copy(), *(state[name].copy() for name in names)]
    return names, np.concatenate(found)


def bits(array):
    """NaN has many patterns, of which none means more than another."""
    return np.where(np.isnan(array), np.nan, array).view(np.uint64)


def encoded(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def check_bits(chromium, known, sets, grads):
    start = np.linspace(-3, 4, SIZE)
    found = chromium.run(WALK, known.name, sets, encoded(start), encoded(grads))
    for options, (names, text) in zip(sets, found, strict=True):
        expected_names, expected = by_numpy(known, options, start, grads)
        assert names == expected_names, options
        mine = np.frombuffer(base64.b64decode(text))
        differ = np.flatnonzero(bits(mine) != bits(expected))
        width = SIZE * (1 + len(names))
        assert differ.size == 0, f"{options}: first in step {differ[0] // width + 1}"


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_a_thousand_steps_have_the_bits_of_numpy(chromium, known):
    check_bits(chromium, known, [{}], gradients())


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_the_bits_are_those_of_numpy_with_any_options(chromium, known):
    sets = [options for options in option_sets(known) if options and accepted(known, options)]
    check_bits(chromium, known, sets, gradients()[-FEWER:])
