// Steps of the optimizers in OPTIMIZERS, which are translated from the rules of torchopt_ref.optim.

// The state of an optimizer before its first step: t counts steps, slots are named as in torch.
function newState() {
  return { t: 0, slots: {} };
}

// The form that the hyper-parameters choose, which has slots(h) and step(...).
function formOf(optimizer, h, t = 1) {
  return optimizer.forms[optimizer.form(h, t, 0)];
}

// One step. param and grad are Float64Arrays of one length; param and the state change in place.
// The hyper-parameters h may change between steps. Slots that are missing are made.
function takeStep(optimizer, h, state, param, grad) {
  const t = state.t + 1;
  const form = formOf(optimizer, h, t);
  let fresh = 0;
  for (const [name, value] of Object.entries(form.slots(h))) {
    if (!(name in state.slots)) {
      state.slots[name] = new Float64Array(param.length).fill(value);
      fresh = 1;
    }
  }
  form.step(h, t, fresh, param, grad, state.slots);
  state.t = t;
}

// The name of an optimizer's method in all dialects: two of them write AdaGrad as Adagrad.
function methodOf({ name }) {
  return name === "Adagrad" ? "AdaGrad" : name;
}

// The default of every hyper-parameter.
function defaults(optimizer) {
  const entries = Object.entries(optimizer.hyper);
  return Object.fromEntries(entries.map(([name, { value }]) => [name, structuredClone(value)]));
}

// A generator of random numbers in [0, 1) that a seed determines (mulberry32).
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 4294967296;
  };
}

// A standard normal number (Box and Muller).
function normal(random) {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
