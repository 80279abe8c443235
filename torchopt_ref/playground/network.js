// A fully connected network: Affine, [BatchNorm,] activation[, Dropout], ... Affine, softmax with
// cross entropy. The layers are those of numpy_ref.layers. A matrix is a Float64Array, row by row.

class Affine {
  constructor(W, b, gradW, gradb) {
    Object.assign(this, { W, b, gradW, gradb, inputs: W.length / b.length, outputs: b.length });
  }

  forward(x) {
    this.x = x;
    const { W, b, inputs, outputs } = this;
    const rows = x.length / inputs;
    const y = new Float64Array(rows * outputs);
    for (let n = 0; n < rows; n++) {
      for (let j = 0; j < outputs; j++) y[n * outputs + j] = b[j];
      for (let k = 0; k < inputs; k++) {
        const value = x[n * inputs + k];
        for (let j = 0; j < outputs; j++) y[n * outputs + j] += value * W[k * outputs + j];
      }
    }
    return y;
  }

  backward(dout) {
    const { x, W, gradW, gradb, inputs, outputs } = this;
    const rows = x.length / inputs;
    const dx = new Float64Array(x.length);
    gradW.fill(0);
    gradb.fill(0);
    for (let n = 0; n < rows; n++) {
      for (let j = 0; j < outputs; j++) gradb[j] += dout[n * outputs + j];
      for (let k = 0; k < inputs; k++) {
        const value = x[n * inputs + k];
        let sum = 0;
        for (let j = 0; j < outputs; j++) {
          const d = dout[n * outputs + j];
          gradW[k * outputs + j] += value * d;
          sum += d * W[k * outputs + j];
        }
        dx[n * inputs + k] = sum;
      }
    }
    return dx;
  }
}

// y = f(x) for each element; dx = dy f'(x), where the derivative is written in terms of y.
class Activation {
  constructor(name) {
    Object.assign(this, Activation.FUNCTIONS[name]);
  }

  forward(x) {
    this.y = x.map(this.f);
    return this.y;
  }

  backward(dout) {
    return dout.map((d, i) => d * this.derivative(this.y[i]));
  }
}
Activation.FUNCTIONS = {
  sigmoid: { f: (x) => 1 / (1 + Math.exp(-x)), derivative: (y) => (1 - y) * y },
  tanh: { f: Math.tanh, derivative: (y) => 1 - y * y },
  relu: { f: (x) => Math.max(x, 0), derivative: (y) => (y > 0 ? 1 : 0) },
};

// Normalises by the batch's own mean and variance in training, else by the running ones.
class BatchNorm {
  constructor(gamma, beta, gradgamma, gradbeta) {
    Object.assign(this, { gamma, beta, gradgamma, gradbeta, momentum: 0.1, eps: 1e-5 });
    this.mean = new Float64Array(gamma.length);
    this.variance = new Float64Array(gamma.length).fill(1);
  }

  forward(x, train) {
    const { gamma, beta, momentum, eps } = this;
    const channels = gamma.length;
    const rows = x.length / channels;
    const y = new Float64Array(x.length);
    this.xhat = new Float64Array(x.length);
    this.std = new Float64Array(channels);
    for (let c = 0; c < channels; c++) {
      let mean = this.mean[c];
      let variance = this.variance[c];
      if (train) {
        let sum = 0;
        for (let n = 0; n < rows; n++) sum += x[n * channels + c];
        mean = sum / rows;
        let squares = 0;
        for (let n = 0; n < rows; n++) squares += (x[n * channels + c] - mean) ** 2;
        variance = squares / rows;
        this.mean[c] += momentum * (mean - this.mean[c]);
        this.variance[c] += momentum * (squares / (rows - 1) - this.variance[c]);
      }
      this.std[c] = Math.sqrt(variance + eps);
      for (let n = 0; n < rows; n++) {
        const i = n * channels + c;
        this.xhat[i] = (x[i] - mean) / this.std[c];
        y[i] = gamma[c] * this.xhat[i] + beta[c];
      }
    }
    return y;
  }

  backward(dout) {
    const { gamma, gradgamma, gradbeta, xhat, std } = this;
    const channels = gamma.length;
    const rows = dout.length / channels;
    const dx = new Float64Array(dout.length);
    for (let c = 0; c < channels; c++) {
      gradgamma[c] = 0;
      gradbeta[c] = 0;
      for (let i = c; i < dout.length; i += channels) {
        gradgamma[c] += dout[i] * xhat[i];
        gradbeta[c] += dout[i];
      }
      for (let i = c; i < dout.length; i += channels) {
        const centred = rows * dout[i] - gradbeta[c] - xhat[i] * gradgamma[c];
        dx[i] = (gamma[c] / std[c] / rows) * centred;
      }
    }
    return dx;
  }
}

// In training drops units with probability p and divides the others by 1 - p.
class Dropout {
  constructor(p, random) {
    Object.assign(this, { p, random });
  }

  forward(x, train) {
    if (!train) return x;
    const keep = 1 / (1 - this.p);
    this.mask = x.map(() => (this.random() < this.p ? 0 : keep));
    return x.map((value, i) => value * this.mask[i]);
  }

  backward(dout) {
    return dout.map((d, i) => d * this.mask[i]);
  }
}

// The mean cross entropy of logits (N, classes), and its gradient in them.
function crossEntropy(logits, labels) {
  const rows = labels.length;
  const classes = logits.length / rows;
  const dout = new Float64Array(logits.length);
  let loss = 0;
  for (let n = 0; n < rows; n++) {
    const row = logits.subarray(n * classes, (n + 1) * classes);
    const largest = Math.max(...row);
    let sum = 0;
    for (const value of row) sum += Math.exp(value - largest);
    const log = Math.log(sum);
    loss -= (row[labels[n]] - largest - log) / rows;
    for (let c = 0; c < classes; c++) {
      dout[n * classes + c] = (Math.exp(row[c] - largest - log) - (c === labels[n] ? 1 : 0)) / rows;
    }
  }
  return [loss, dout];
}

// All parameters lie in one array, all gradients in another, so that a step is one call; tensors
// maps W1, b1, [gamma1, beta1,] W2, ... to their parts.
class Network {
  constructor({ sizes, activation, batchnorm = false, dropout = 0, random }) {
    const shapes = {};
    const last = sizes.length - 1;
    for (let i = 1; i <= last; i++) {
      shapes[`W${i}`] = sizes[i - 1] * sizes[i];
      shapes[`b${i}`] = sizes[i];
      if (batchnorm && i < last) shapes[`gamma${i}`] = shapes[`beta${i}`] = sizes[i];
    }
    const count = Object.values(shapes).reduce((a, b) => a + b);
    this.params = new Float64Array(count);
    this.grads = new Float64Array(count);
    this.tensors = {};
    const grads = {};
    let begin = 0;
    for (const [name, length] of Object.entries(shapes)) {
      this.tensors[name] = this.params.subarray(begin, begin + length);
      grads[name] = this.grads.subarray(begin, begin + length);
      begin += length;
    }
    const made = (Layer, ...names) =>
      new Layer(...names.map((name) => this.tensors[name]), ...names.map((name) => grads[name]));
    this.sizes = sizes;
    this.layers = [];
    this.hidden = []; // the layers of activation
    this.affine = [];
    for (let i = 1; i <= last; i++) {
      this.affine.push(made(Affine, `W${i}`, `b${i}`));
      this.layers.push(this.affine[i - 1]);
      if (i === last) break;
      if (batchnorm) {
        this.tensors[`gamma${i}`].fill(1);
        this.layers.push(made(BatchNorm, `gamma${i}`, `beta${i}`));
      }
      this.hidden.push(new Activation(activation));
      this.layers.push(this.hidden[i - 1]);
      if (dropout) this.layers.push(new Dropout(dropout, random));
    }
  }

  // Weights from a normal distribution; std is a number, "xavier" or "he".
  initialise(std, random) {
    for (const { W, inputs } of this.affine) {
      const scale = { xavier: Math.sqrt(1 / inputs), he: Math.sqrt(2 / inputs) }[std] ?? std;
      for (let i = 0; i < W.length; i++) W[i] = scale * normal(random);
    }
  }

  predict(x, train = false) {
    for (const layer of this.layers) x = layer.forward(x, train);
    return x;
  }

  // The loss of a batch; its gradients are left in grads.
  gradient(x, labels) {
    const [loss, dlogits] = crossEntropy(this.predict(x, true), labels);
    let dout = dlogits;
    for (const layer of [...this.layers].reverse()) dout = layer.backward(dout);
    return loss;
  }
}

// The points of two spirals, and to which one each belongs.
function spirals(count, noise, random) {
  const x = new Float64Array(2 * count);
  const labels = new Uint8Array(count);
  for (let n = 0; n < count; n++) {
    labels[n] = n % 2;
    const along = Math.sqrt(random());
    const angle = 3 * Math.PI * along + Math.PI * labels[n];
    x[2 * n] = along * Math.cos(angle) + noise * normal(random);
    x[2 * n + 1] = along * Math.sin(angle) + noise * normal(random);
  }
  return { x, labels };
}

function accuracy(network, { x, labels }) {
  const logits = network.predict(x);
  let right = 0;
  for (let n = 0; n < labels.length; n++)
    right += logits[2 * n + 1] > logits[2 * n] === (labels[n] === 1);
  return right / labels.length;
}
