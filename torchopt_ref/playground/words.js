// All words of the page, in both languages.

const WORDS = {
  en: {
    title: "Optimizer playground",
    subtitle:
      "Watch optimizers walk down a surface and train a network, step by step, on your own machine.",
    language: "Language",
    paths_title: "Paths down a surface",
    paths_lead:
      "All start at the same point and see only the slope under their feet. Change a learning rate and look at what the velocity and the averages do.",
    surface: "Surface",
    valley: "Valley: x²/20 + y²",
    rosenbrock: "Rosenbrock's banana",
    beale: "Beale's plateau",
    saddle: "Saddle between two hollows",
    noisy: "Noisy valley",
    drawn: "Draw your own",
    steps: "Steps",
    noise: "Noise",
    seed: "Seed",
    pointer: "What the pointer does",
    dig: "Dig",
    raise: "Raise",
    move_start: "Move the start",
    flatten: "Clear",
    map_label: "The surface from above, and the paths of the optimizers on it",
    hint_start: "Drag to move the start, or focus the picture and use the arrow keys.",
    hint_draw:
      "Draw with mouse or finger. By keyboard: focus the picture, move with the arrow keys, press Enter to draw.",
    step: "Step",
    descent_label: "The value of the function at each step, for each optimizer",
    descent_axis: "f, how high each one stands",
    play: "▶ Play",
    pause: "❚❚ Pause",
    back: "◀ Back",
    forward: "Step ▶",
    restart: "↺ Restart",
    dialect: "Dialect",
    optimizer: "Optimizer",
    remove: "Remove this optimizer",
    add: "+ Add an optimizer",
    all_hyper: "All hyper-parameters",
    code: "The step, as the code that runs here",
    the_step: "after step {step}: f = {value}",
    left_picture: "has left the picture (f = {value})",
    not_finite: "diverged: no finite number is left. Lower the learning rate.",
    state_what: "State",
    theta: "position",
    gradient: "gradient",
    slot_momentum_buffer: "velocity v",
    slot_sum: "sum of squares h",
    slot_square_avg: "average of squares h",
    slot_exp_avg: "average of gradients m",
    slot_exp_avg_sq: "average of squares v",
    slot_max_exp_avg_sq: "largest v so far",
    slot_grad_avg: "average of gradients",
    lr: "learning rate",
    momentum: "momentum",
    dampening: "dampening",
    nesterov: "Nesterov's momentum",
    maximize: "climb instead of descending",
    weight_decay: "weight decay",
    decoupled_weight_decay: "weight decay apart from the gradient",
    lr_decay: "decay of the learning rate",
    initial_accumulator_value: "first value of h",
    eps: "epsilon",
    alpha: "memory of the average",
    centered: "divide by the variance",
    "betas.0": "memory of m",
    "betas.1": "memory of v",
    amsgrad: "never forget a large gradient",
    eps_root: "epsilon inside the root",
    eps_in_sqrt: "epsilon inside the root",
    initial_scale: "first value of h",
    bias_correction: "correct the averages at the start",
    at_least: "must be a number from {least} on",
    more_than: "must be a number greater than 0",
    within: "must be a number from 0 to less than 1",
    any_number: "must be a number",
    between: "must be a number from {least} to {most}",
    spirals_title: "A network learns two spirals",
    spirals_lead:
      "Try standard deviation 0.01 or 1 with sigmoid and look at the histograms. Then try Xavier, He, or batch normalisation.",
    plane_label: "The two spirals, and which class the network sees at each point",
    loss_label: "The loss of each batch so far",
    loss_caption: "loss of each batch, by iteration",
    plane_text: "iteration {step}: {train} of the points right, {test} of unseen ones",
    histograms: "Activations of each hidden layer",
    histograms_hint:
      "Of the last batch. Where activations pile up at the ends, hardly any gradient comes through; where all are in one place, the units say the same. Under each picture: the standard deviation, and the length of the gradient of the layer's weights.",
    layer: "Layer {number}",
    layer_text: "std {std}, gradient {gradient}",
    layer_label: "Histogram of the activations of layer {number}",
    network: "The network",
    initial: "Initial weights",
    std_small: "std 0.01",
    std_one: "std 1",
    xavier: "Xavier",
    he: "He",
    activation: "Activation",
    sigmoid: "sigmoid",
    tanh: "tanh",
    relu: "ReLU",
    batchnorm: "Batch normalisation",
    dropout: "Dropout",
    depth: "hidden layers",
    network_hint:
      "A change of the network starts the training again; a change of the optimizer does not.",
    trained_by: "Trained by",
    diverged: "the loss is not a number any more: lower the learning rate and start again",
    about:
      "No optimizer was written for this page. Each is the rule of torchopt_ref, translated to JavaScript when the page was built, and computes in float64. In Chromium a thousand steps have the bits of the project's NumPy reference; the tests check it. Other browsers may round powers, which Adam needs, differently in the last bit.",
    keys: "Keyboard: Space plays and pauses, left and right go one step, Tab reaches every control. One of the two pictures runs at a time.",
    dialect_torch: "torch.optim",
    dialect_book: "textbook",
    dialect_keras: "Keras",
    dialect_optax: "Optax",
  },
  zh: {
    title: "优化器演练场",
    subtitle: "在你自己的电脑上，一步一步地看优化器如何沿曲面下降、如何训练神经网络。",
    language: "语言",
    paths_title: "曲面上的路径",
    paths_lead:
      "所有优化器从同一点出发，只能看到脚下的坡度。改变学习率，观察速度和各种平均值的变化。",
    surface: "曲面",
    valley: "山谷：x²/20 + y²",
    rosenbrock: "Rosenbrock 香蕉函数",
    beale: "Beale 平原",
    saddle: "两个洼地之间的鞍点",
    noisy: "带噪声的山谷",
    drawn: "自己画",
    steps: "步数",
    noise: "噪声",
    seed: "随机种子",
    pointer: "指针的作用",
    dig: "挖低",
    raise: "垫高",
    move_start: "移动起点",
    flatten: "清除",
    map_label: "俯视的曲面，以及各优化器在其上的路径",
    hint_start: "拖动可移动起点；也可以让图获得焦点后用方向键移动。",
    hint_draw: "用鼠标或手指画。用键盘：让图获得焦点，用方向键移动，按 Enter 画。",
    step: "第几步",
    descent_label: "每个优化器在每一步的函数值",
    descent_axis: "f：各优化器所在的高度",
    play: "▶ 播放",
    pause: "❚❚ 暂停",
    back: "◀ 上一步",
    forward: "下一步 ▶",
    restart: "↺ 重来",
    dialect: "写法",
    optimizer: "优化器",
    remove: "移除这个优化器",
    add: "+ 添加优化器",
    all_hyper: "全部超参数",
    code: "一步更新：这里实际运行的代码",
    the_step: "第 {step} 步之后：f = {value}",
    left_picture: "已走出画面（f = {value}）",
    not_finite: "发散了：数值已是无穷大或 NaN。请降低学习率。",
    state_what: "状态",
    theta: "位置",
    gradient: "梯度",
    slot_momentum_buffer: "速度 v",
    slot_sum: "梯度平方和 h",
    slot_square_avg: "梯度平方的平均 h",
    slot_exp_avg: "梯度的平均 m",
    slot_exp_avg_sq: "梯度平方的平均 v",
    slot_max_exp_avg_sq: "到目前为止最大的 v",
    slot_grad_avg: "梯度的平均",
    lr: "学习率",
    momentum: "动量",
    dampening: "阻尼",
    nesterov: "Nesterov 动量",
    maximize: "上升而不是下降",
    weight_decay: "权值衰减",
    decoupled_weight_decay: "权值衰减不经过梯度",
    lr_decay: "学习率的衰减",
    initial_accumulator_value: "h 的初始值",
    eps: "epsilon",
    alpha: "平均的记忆",
    centered: "除以方差",
    "betas.0": "m 的记忆",
    "betas.1": "v 的记忆",
    amsgrad: "永不忘记大的梯度",
    eps_root: "根号内的 epsilon",
    eps_in_sqrt: "epsilon 放在根号内",
    initial_scale: "h 的初始值",
    bias_correction: "修正起步时的平均值",
    at_least: "必须是不小于 {least} 的数",
    more_than: "必须是大于 0 的数",
    within: "必须是从 0 到小于 1 的数",
    any_number: "必须是数",
    between: "必须是 {least} 到 {most} 之间的数",
    spirals_title: "神经网络学习两条螺旋线",
    spirals_lead:
      "用 sigmoid，把标准差设为 0.01 或 1，看看直方图。然后试试 Xavier、He 或 Batch Normalization。",
    plane_label: "两条螺旋线，以及网络对每个点的分类",
    loss_label: "到目前为止每个 mini-batch 的损失",
    loss_caption: "每个 mini-batch 的损失（横轴为迭代次数）",
    plane_text: "第 {step} 次迭代：训练点正确率 {train}，未见过的点 {test}",
    histograms: "各隐藏层的激活值",
    histograms_hint:
      "取自最近一个 mini-batch。激活值若堆在两端，梯度几乎传不过去；若挤在一处，各个神经元表达的都一样。每幅图下方是标准差，以及该层权重梯度的长度。",
    layer: "第 {number} 层",
    layer_text: "标准差 {std}，梯度 {gradient}",
    layer_label: "第 {number} 层激活值的直方图",
    network: "网络",
    initial: "权重初始值",
    std_small: "标准差 0.01",
    std_one: "标准差 1",
    xavier: "Xavier",
    he: "He",
    activation: "激活函数",
    sigmoid: "sigmoid",
    tanh: "tanh",
    relu: "ReLU",
    batchnorm: "Batch Normalization",
    dropout: "Dropout",
    depth: "隐藏层数",
    network_hint: "改变网络会重新开始训练；改变优化器不会。",
    trained_by: "用它训练",
    diverged: "损失已是 NaN：请降低学习率并重新开始",
    about:
      "这一页没有另写任何优化器：每一个都是 torchopt_ref 的规则，在生成网页时翻译成 JavaScript，用 float64 计算。在 Chromium 中，一千步的结果与本项目的 NumPy 参考实现逐位相同，并由测试检验。其他浏览器计算幂（Adam 需要）时，最后一位可能不同。",
    keys: "键盘：空格键播放和暂停，左右方向键走一步，Tab 键可到达所有控件。两个图同一时间只有一个在运行。",
    dialect_torch: "torch.optim",
    dialect_book: "教科书",
    dialect_keras: "Keras",
    dialect_optax: "Optax",
  },
};

let language = "en";

// The words for a key, with values put in.
function t(key, values = {}) {
  const text = WORDS[language][key];
  if (text === undefined) throw new Error(`no words for ${key}`);
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// The words for a name of the library; the name itself if this page does not know it, as the
// library may be newer.
function named(key, name) {
  return WORDS[language][key] ?? name;
}

// Write all words into the elements of a part: their text, or the label of those without text.
function translate(part = document) {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.title = t("title");
  for (const element of part.querySelectorAll("[data-t]"))
    element.textContent = t(element.dataset.t, element.dataset);
  for (const element of part.querySelectorAll("[data-named]")) {
    element.textContent = named(element.dataset.named, element.dataset.name);
  }
  for (const element of part.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", t(element.dataset.label));
  }
  for (const button of part.querySelectorAll("button[data-language]")) {
    button.setAttribute("aria-pressed", button.dataset.language === language);
  }
}

const SUPERSCRIPT = { "-": "⁻", "+": "", ...Object.fromEntries([..."⁰¹²³⁴⁵⁶⁷⁸⁹"].entries()) };

// A number as people write it, in at most four digits, or three with a power: 0.05, 7.8·10⁻¹³.
function written(value) {
  if (!Number.isFinite(value)) return String(value).replace("Infinity", "∞").replace("-", "−");
  const size = Math.abs(value);
  const short = size !== 0 && (size < 1e-3 || size >= 1e5);
  if (!short) return String(Number(value.toPrecision(4))).replace("-", "−");
  const [digits, exponent] = Number(value.toPrecision(3)).toExponential().split("e");
  const power = "10" + exponent.replace(/[-+\d]/g, (c) => SUPERSCRIPT[c]);
  return (digits === "1" ? power : `${digits}·${power}`).replace("-", "−");
}
