"""A training moves from Keras or Optax and back, and nobody could tell from its numbers.

Both sides get the same gradients, of a real network; denormals, which XLA makes zero, are not among
them.
"""

import os

import numpy as np
import pytest
import torch
from torch import nn

from torchopt_ref import optim
from torchopt_ref.optim import keras as ours_keras
from torchopt_ref.optim import optax as ours_optax
from torchopt_ref.optim.moving import from_keras, from_optax, to_keras, to_optax

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
MISSING = "pip install 'torchopt-ref[dialects]'"
jax = pytest.importorskip("jax", reason=MISSING)
keras = pytest.importorskip("keras", reason=MISSING)
optax = pytest.importorskip("optax", reason=MISSING)
jnp = jax.numpy

STEPS = 3


def conv_kernel(kernel):
    return kernel.transpose(3, 2, 0, 1)


def dense_kernel(kernel):
    """That of a Dense after Flatten, whose inputs torch has with the channels first."""
    return kernel.reshape(3, 2, 3, 4).transpose(3, 2, 0, 1).reshape(4, 18)


FUNCTIONS = {"conv/kernel": conv_kernel, "dense/kernel": dense_kernel}


def keras_model():
    layers = [
        keras.layers.Input((4, 4, 2)),
        keras.layers.Conv2D(3, (2, 3), name="conv", activation="tanh"),
        keras.layers.Flatten(),
        keras.layers.Dense(4, name="dense"),
    ]
    return keras.Sequential(layers)


def torch_model():
    return nn.Sequential(nn.Conv2d(2, 3, (2, 3)), nn.Tanh(), nn.Flatten(), nn.Linear(18, 4))


def mapped(model):
    """The map of the model, and its parameters, by path."""
    params = dict(
        zip(
            ("conv/kernel", "conv/bias", "dense/kernel", "dense/bias"),
            model.parameters(),
            strict=True,
        )
    )
    with_functions = {
        name: (param, FUNCTIONS[name]) if name in FUNCTIONS else param
        for name, param in params.items()
    }
    return with_functions, params


def here(name, array):
    array = np.asarray(array)
    return torch.tensor(np.ascontiguousarray(FUNCTIONS.get(name, lambda same: same)(array)))


def there(name, tensor):
    """The inverse of ``here``, written out."""
    array = tensor.numpy()
    if name == "conv/kernel":
        return array.transpose(2, 3, 1, 0)
    if name == "dense/kernel":
        return array.reshape(4, 3, 3, 2).transpose(2, 3, 1, 0).reshape(18, 4)
    return array


def gradient(weights, step):
    """Their gradient of a loss of the network with these weights, on that step's batch."""
    model = torch_model()
    params = mapped(model)[1]
    for (name, param), weight in zip(params.items(), weights, strict=True):
        param.data = here(name, weight)
    draw = torch.Generator().manual_seed(step)
    outputs = model(torch.randn(8, 2, 4, 4, generator=draw))
    (outputs - torch.randn(8, 4, generator=draw)).square().mean().backward()
    return [jnp.asarray(there(name, param.grad)) for name, param in params.items()]


def step_here(optimizer, params, gradients):
    for (name, param), grad in zip(params.items(), gradients, strict=True):
        param.grad = here(name, grad)
    optimizer.step()


def bits(optimizer):
    """All that an optimizer of Keras and its model have."""
    kept = (*optimizer._trainable_variables, *optimizer.variables)
    return [np.asarray(variable) for variable in kept]


def same(one, other):
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# ---------------------------------------------------------------------------------------- Keras

KERAS = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("RMSprop", {"momentum": 0.9, "centered": True, "epsilon": 1e-3, "rho": 0.8}),
    ("Adagrad", {"initial_accumulator_value": 0.2}),
    ("Adam", {"amsgrad": True, "beta_1": 0.8}),
    ("AdamW", {}),
]
each_keras = pytest.mark.parametrize(("name", "options"), KERAS)


def built(name="Adam", spared="bias", **options):
    model = keras_model()
    optimizer = getattr(keras.optimizers, name)(**{"learning_rate": 0.01} | options)
    optimizer.exclude_from_weight_decay(var_names=[spared])
    optimizer.build(model.trainable_variables)
    return optimizer


def by_variable(optimizer, entries):
    return zip(optimizer._trainable_variables, entries.values(), strict=True)


def by_path(optimizer, entries):
    paths = [variable.path for variable in optimizer._trainable_variables]
    return dict(zip(paths, entries.values(), strict=True))


def keras_steps(optimizer, first, until):
    for step in range(first, until):
        weights = [variable.value for variable in optimizer._trainable_variables]
        grads = gradient(weights, step)
        yield grads
        optimizer.apply(grads)


@each_keras
def test_a_keras_training_goes_on_here_and_back_there(name, options):
    theirs = built(name, **options)
    for _ in keras_steps(theirs, 0, STEPS):
        pass
    model = torch_model()
    entries, params = mapped(model)
    ours = from_keras(theirs, by_variable(theirs, entries))
    assert type(ours) is getattr(ours_keras, name)
    steps = {"steps": 2 * STEPS} if name == "SGD" else {}

    for grads in keras_steps(theirs, STEPS, 2 * STEPS):
        step_here(ours, params, grads)
    for variable, (path, param) in by_variable(theirs, dict(enumerate(params.items()))):
        assert torch.equal(param.detach(), here(path, variable)), path

    back = built(name, **options | {"learning_rate": 0.5})
    to_keras(ours, back, by_path(back, entries), **steps)
    assert same(bits(back), bits(theirs))
    for optimizer in (theirs, back):
        for _ in keras_steps(optimizer, 2 * STEPS, 3 * STEPS):
            pass
    assert same(bits(back), bits(theirs))


def test_weights_are_written_and_give_the_outputs_of_keras():
    model = keras_model()
    optimizer = keras.optimizers.SGD()
    optimizer.build(model.trainable_variables)
    twin = torch_model()
    from_keras(optimizer, by_path(optimizer, mapped(twin)[0]))
    x = np.random.default_rng(1).normal(size=(5, 4, 4, 2)).astype("float32")
    outputs = twin(torch.tensor(x.transpose(0, 3, 1, 2))).detach().numpy()
    np.testing.assert_allclose(outputs, model(x), rtol=1e-5, atol=1e-5)


def test_the_hyper_parameters_of_keras_are_in_the_groups():
    theirs = built("AdamW", beta_2=0.99, epsilon=1e-5, amsgrad=True, weight_decay=0.02)
    entries, params = mapped(torch_model())
    ours = from_keras(theirs, by_path(theirs, entries))
    decayed, spared = ours.param_groups
    assert [id(each) for each in decayed["params"] + spared["params"]] == [
        id(params[name]) for name in ("conv/kernel", "dense/kernel", "conv/bias", "dense/bias")
    ]
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.02, 0)
    for group in ours.param_groups:
        assert (group["betas"], group["eps"], group["amsgrad"]) == ((0.9, 0.99), 1e-5, True)
        assert group["lr"] == float(np.float32(0.01))


def test_a_hyper_parameter_of_numpy_becomes_a_number_of_python():
    theirs = built("RMSprop", rho=np.float32(0.9))
    (group,) = from_keras(theirs, by_path(theirs, mapped(torch_model())[0])).param_groups
    assert type(group["alpha"]) is float


def test_of_a_schedule_the_present_value_moves_and_back_there_it_stays():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    theirs = built("SGD", learning_rate=schedule)
    theirs.iterations.assign(2)
    entries, _ = mapped(torch_model())
    ours = from_keras(theirs, by_path(theirs, entries))
    assert ours.param_groups[0]["lr"] == pytest.approx(0.025)
    ours.param_groups[0]["lr"] = 7.0
    with pytest.raises(ValueError, match="counts no steps, which Keras' schedule goes by: give st"):
        to_keras(ours, theirs, by_path(theirs, entries))
    to_keras(ours, theirs, by_path(theirs, entries), steps=3)
    assert float(theirs.learning_rate) == pytest.approx(0.0125)


def test_a_training_that_has_not_begun_moves_too():
    entries, _ = mapped(torch_model())
    theirs = built("Adam")
    before = bits(theirs)
    ours = from_keras(theirs, by_path(theirs, entries))
    other = built("Adam")
    to_keras(ours, other, by_path(other, entries))
    assert same(bits(other), before)


def in_64_bits():
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_dtypes_keep_their_bits(dtype):
    with in_64_bits():
        value = jnp.asarray([[1 / 3, -0.0], [7e-5, 3.0]], dtype)
        variable = keras.Variable(value, dtype=dtype)
        theirs = keras.optimizers.SGD(0.1, momentum=0.9)
        theirs.build([variable])
        theirs.momentums[0].assign(2 * value)
        before = bits(theirs)
        param = nn.Parameter(torch.zeros(2, 2, dtype=getattr(torch, dtype)))
        model_map = [(variable, (param, np.transpose))]
        ours = from_keras(theirs, model_map)
        assert param.tolist() == value.T.astype("float64").tolist()
        variable.assign(0 * value)
        theirs.momentums[0].assign(0 * value)
        to_keras(ours, theirs, model_map)
        assert same(bits(theirs), before)
        assert str(before[0].dtype) == dtype


def test_a_learning_rate_is_never_rounded_unseen():
    """Keras casts it to the variable's dtype, the dialect always to float32."""
    with in_64_bits():
        for dtype in ("float32", "float64"):
            variable = keras.Variable([1.0], dtype=dtype)
            theirs = keras.optimizers.SGD(lambda: 0.1)
            theirs.build([variable])
            param = another((1,), getattr(torch, dtype))
            if dtype == "float32":
                assert from_keras(theirs, [(variable, param)]).defaults["lr"] == 0.1
            else:
                with pytest.raises(ValueError, match=r"has the learning rate 0\.1 in float64"):
                    from_keras(theirs, [(variable, param)])


def test_slots_lie_in_the_memory_order_of_their_parameter():
    theirs = built("Adam")
    model = torch_model().to(memory_format=torch.channels_last)
    ours = from_keras(theirs, by_path(theirs, mapped(model)[0]))
    weight = model[0].weight
    assert ours.state[weight]["exp_avg"].stride() == weight.stride() != (18, 9, 3, 1)


GOES_AROUND = {
    "clipnorm": 1.0,
    "clipvalue": 1.0,
    "global_clipnorm": 1.0,
    "use_ema": True,
    "loss_scale_factor": 2.0,
    "gradient_accumulation_steps": 2,
}


def doubled(array):
    return 2 * array


def first_twice(array):
    return array.reshape(-1)[[0, *range(35)]].reshape(3, 2, 2, 3)


def as_numbers_of_float32(array):
    return conv_kernel(array).astype("float32")


def another(shape=(3,), dtype=torch.float32):
    return nn.Parameter(torch.ones(shape, dtype=dtype))


# Each gives the map of what is mapped rightly, by the ends of the paths.
REFUSED_MAPS = {
    "a variable is missing": (
        lambda right: [*right.items()][1:],
        "the map lacks .*conv/kernel of the",
    ),
    "a path is misspelt": (
        lambda right: right | {"conv/kern": another()},
        "the .* has no .*conv/kern, but .*conv/bias",
    ),
    "a variable twice": (
        lambda right: [*right.items(), ("conv/bias", another())],
        "conv/bias is mapped twice",
    ),
    "a parameter twice": (
        lambda right: right | {"dense/bias": right["conv/bias"]},
        "conv/bias and .*dense/bias are mapped to one parameter",
    ),
    "no function where one is needed": (
        lambda right: right | {"conv/kernel": right["conv/kernel"][0]},
        r"conv/kernel has the shape \(2, 3, 2, 3\), its parameter here \(3, 2, 2, 3\)",
    ),
    "a function with another shape": (
        lambda right: right | {"dense/kernel": (right["dense/kernel"][0], np.ravel)},
        r"dense/kernel has the shape \(18, 4\), after the map's function \(72,\), its .*\(4, 18\)",
    ),
    "a function that fails": (
        lambda right: right | {"dense/kernel": (right["dense/kernel"][0], conv_kernel)},
        r"dense/kernel: the map's function fails for its shape \(18, 4\): axes don't match",
    ),
    "a function that computes": (
        lambda right: right | {"conv/bias": (right["conv/bias"], doubled)},
        "conv/bias: the map's function may only move elements",
    ),
    "a function that changes the dtype": (
        lambda right: right | {"conv/kernel": (right["conv/kernel"][0], as_numbers_of_float32)},
        "conv/kernel: the map's function may only move elements",
    ),
    "a function that loses an element": (
        lambda right: right | {"conv/kernel": (right["conv/kernel"][0], first_twice)},
        "conv/kernel: the map's function may only move elements",
    ),
    "another dtype": (
        lambda right: right | {"conv/bias": another(dtype=torch.float64)},
        "conv/bias: .* is float32 there and float64 here: a training moves in one dtype",
    ),
    "no parameter": (
        lambda right: right | {"conv/bias": "0.bias"},
        r"conv/bias: the map must give a parameter or .*, not a builtins.str$",
    ),
}


@pytest.mark.parametrize("case", REFUSED_MAPS)
def test_a_map_that_does_not_fit_is_refused_and_nothing_written(case):
    make, message = REFUSED_MAPS[case]
    theirs = built("Adam")
    entries, params = mapped(torch_model())
    good = from_keras(theirs, by_path(theirs, entries))
    for param in params.values():
        param.data.fill_(7)
    before = bits(theirs)
    prefix = theirs._trainable_variables[0].path.removesuffix("conv/kernel")
    wrong = make(entries)
    pairs = wrong.items() if isinstance(wrong, dict) else wrong
    model_map = [(prefix + name, entry) for name, entry in pairs]
    with pytest.raises((ValueError, TypeError), match=message):
        from_keras(theirs, model_map)
    with pytest.raises((ValueError, TypeError)):
        to_keras(good, theirs, model_map)
    assert all(torch.all(param == 7) for param in params.values())
    assert same(bits(theirs), before)


def test_variables_of_another_model_are_refused_though_their_names_are_the_same():
    mine, other = (keras.Variable([1.0], name="same") for _ in range(2))
    optimizer = keras.optimizers.SGD()
    optimizer.build([mine])
    assert mine.path == other.path
    with pytest.raises(
        ValueError, match=r"the Keras optimizer has no same \(not one of its variables\), but same"
    ):
        from_keras(optimizer, [(other, another((1,)))])


def test_a_number_is_a_parameter_too():
    variable = keras.Variable(3.0)
    theirs = keras.optimizers.SGD(momentum=0.5)
    theirs.build([variable])
    param = another(())
    ours = from_keras(theirs, [(variable, param)])
    assert param.item() == 3
    ours.state[param]["momentum_buffer"].fill_(2)
    to_keras(ours, theirs, [(variable, param)])
    assert float(theirs.momentums[0]) == 2


def test_variables_of_one_path_are_told_apart():
    variables = [keras.Variable([float(number)], name="same") for number in range(2)]
    optimizer = keras.optimizers.SGD()
    optimizer.build(variables)
    params = [another((1,)), another((1,))]
    from_keras(optimizer, zip(variables, params, strict=True))
    assert [param.item() for param in params] == [0, 1]
    with pytest.raises(ValueError, match=r"has no same, but same \(0\), same \(1\)"):
        from_keras(optimizer, {"same": params[0]})


@pytest.mark.parametrize("option", GOES_AROUND)
def test_what_goes_around_the_step_in_keras_is_refused_in_both_directions(option):
    entries, params = mapped(torch_model())
    plain = built("SGD")
    ours = from_keras(plain, by_path(plain, entries))
    theirs = built("SGD", **{option: GOES_AROUND[option]})
    before = bits(theirs)
    message = f"Keras' {option} is not part of the step here: .*, and set it to"
    with pytest.raises(ValueError, match=message):
        from_keras(theirs, by_path(theirs, entries))
    with pytest.raises(ValueError, match=message):
        to_keras(ours, theirs, by_path(theirs, entries))
    assert same(bits(theirs), before)
    assert {id(param) for param in ours.state} <= {id(param) for param in params.values()}


class Mine(keras.optimizers.Adam):
    """Somebody's own, which may have another update_step."""


def test_optimizers_that_are_not_here_are_refused():
    variables = keras_model().trainable_variables
    for make, message in [
        (keras.optimizers.Lion, "of Keras 3 move, not keras..*Lion"),
        (Mine, "of Keras 3 move, not .*Mine"),
        (lambda: keras.optimizers.LossScaleOptimizer(Mine()), "move its inner_optimizer"),
        (lambda: optax.adam(0.1).init({}), "of Keras 3 move, not builtins.tuple"),
        (keras_model, "of Keras 3 move, not keras..*Sequential"),
    ]:
        optimizer = make()
        if hasattr(optimizer, "apply_gradients"):
            optimizer.build(variables)
        with pytest.raises(TypeError, match=message):
            from_keras(optimizer, {})
    entries, _ = mapped(torch_model())
    scheduled = built("Adam", beta_1=lambda: 0.9)
    with pytest.raises(ValueError, match="Keras' beta_1 is a function: give Keras a number"):
        from_keras(scheduled, by_path(scheduled, entries))
    with pytest.raises(ValueError, match=r"Adam is not built: call build\(model.trainable_var"):
        from_keras(keras.optimizers.Adam(), {})


def lr_of_one(optimizer):
    optimizer.param_groups[0]["lr"] = 0.5


def step_of_one(optimizer):
    param = optimizer.param_groups[0]["params"][0]
    optimizer.state[param]["step"] += 1


def other_beta(optimizer):
    optimizer.param_groups[0]["betas"] = (0.5, 0.999)


def other_decay(optimizer):
    optimizer.param_groups[1]["weight_decay"] = 0.5


def one_more(optimizer):
    optimizer.add_param_group({"params": [another((2, 2))]})


def wide_slot(optimizer):
    param = optimizer.param_groups[0]["params"][0]
    optimizer.state[param]["exp_avg"] = torch.ones(param.shape, dtype=torch.float64)


CHANGES = {
    lr_of_one: "the param groups have lr=0.00999.* and 0.5: make it one",
    step_of_one: "parameters have made 0 and 1 steps, but there is one count for all",
    one_more: r"parameter 0 of param group 2, of shape \(2, 2\), is not in the map",
    wide_slot: "conv/kernel: exp_avg is float32 there and float64 here",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *CHANGES.items(),
        (
            other_decay,
            r"bias: weight_decay is 0\.5 here and 0\.0 in Keras: give the Keras optimizer",
        ),
        (other_beta, r"betas is \(0.5, 0.999\) here and \(0.9, 0.999\) in Keras: give the Keras"),
    ],
)
def test_what_keras_has_once_must_be_one_and_the_same_there(change, message):
    theirs = built("AdamW")
    entries, _ = mapped(torch_model())
    ours = from_keras(theirs, by_path(theirs, entries))
    change(ours)
    before = bits(theirs)
    with pytest.raises(ValueError, match=message):
        to_keras(ours, theirs, by_path(theirs, entries))
    assert same(bits(theirs), before)
    if change is step_of_one:
        to_keras(ours, theirs, by_path(theirs, entries), steps=5)
        assert int(theirs.iterations) == 5


def test_betas_may_be_any_two_numbers():
    theirs = built("Adam", spared="none")
    entries, _ = mapped(torch_model())
    ours = from_keras(theirs, by_path(theirs, entries))
    for group in ours.param_groups:
        group["betas"] = [np.float64(0.9), torch.tensor(0.999, dtype=torch.float64)]
    to_keras(ours, theirs, by_path(theirs, entries), steps=1)


def test_only_keras_dialect_moves_to_keras_and_only_to_its_own_class():
    theirs = built("Adam", spared="none")
    entries, params = mapped(torch_model())
    for cls in (optim.Adam, ours_optax.Adam, torch.optim.Adam):
        with pytest.raises(TypeError, match=r"optimizer of torchopt_ref.optim.keras is moved here"):
            to_keras(cls(params.values()), theirs, by_path(theirs, entries))
    with pytest.raises(TypeError, match=r"keras\.AdamW is not moved into Keras' Adam"):
        to_keras(ours_keras.AdamW(params.values()), theirs, by_path(theirs, entries))


@pytest.mark.parametrize("optimizer", [optim.Adam, ours_keras.Adam, ours_optax.Adam])
def test_loading_another_framework_s_state_as_a_state_dict_names_the_call(optimizer):
    for wrong in (built("Adam"), optax.adam(0.1).init({}), [np.ones(2)]):
        with pytest.raises(TypeError, match=r"optim.moving.from_keras, .* by from_optax"):
            optimizer([another()]).load_state_dict(wrong)


# ---------------------------------------------------------------------------------------- Optax


@pytest.fixture
def exact_rsqrt(monkeypatch):
    """XLA's on the CPU is an approximation, up to 2 ULP off; this is the rounded one."""
    monkeypatch.setattr(jax.lax, "rsqrt", lambda x: 1 / jnp.sqrt(x))


def nested(by_path):
    """A tree as Flax has it, of a dict by paths."""
    tree = {}
    for path, leaf in by_path.items():
        layer, name = path.split("/")
        tree.setdefault(layer, {})[name] = leaf
    return tree


SHAPES = {
    "conv/kernel": (2, 3, 2, 3),
    "conv/bias": (3,),
    "dense/kernel": (18, 4),
    "dense/bias": (4,),
}


def optax_params():
    draw = np.random.default_rng(2)
    return nested(
        {name: jnp.asarray(draw.normal(size=shape), "float32") for name, shape in SHAPES.items()}
    )


def in_order(tree):
    return [tree[layer][name] for layer, name in (path.split("/") for path in SHAPES)]


@pytest.mark.parametrize("cls", [optim.Adam, ours_keras.Adam, torch.optim.Adam])
def test_only_optax_dialect_moves_from_and_to_optax(cls):
    entries, params = mapped(torch_model())
    state, ours = optax.adam(0.1).init(optax_params()), cls(params.values())
    for move in (
        lambda: from_optax(state, nested(entries), ours),
        lambda: to_optax(ours, state, entries),
    ):
        with pytest.raises(TypeError, match=r"optimizer of torchopt_ref.optim.optax is moved here"):
            move()


def optax_steps(tx, params, state, first, until):
    """Gradients, parameters and state of each step."""
    steps = []
    for step in range(first, until):
        grads = gradient(in_order(params), step)
        updates, state = tx.update(nested(dict(zip(SHAPES, grads, strict=True))), state, params)
        params = optax.apply_updates(params, updates)
        steps.append((grads, params, state))
    return steps


def same_trees(one, other):
    return jax.tree.structure(one) == jax.tree.structure(other) and same(
        jax.tree.leaves(one), jax.tree.leaves(other)
    )


X64 = {"x64": jax.config.jax_enable_x64}
RMS = {"eps_in_sqrt": False, "centered": True, "momentum": 0.9, "nesterov": True}
OPTAX = [
    (optax.sgd(0.1), lambda params: ours_optax.SGD(params, 0.1)),
    (optax.sgd(0.1, 0.9, True), lambda params: ours_optax.SGD(params, 0.1, 0.9, True)),
    (optax.rmsprop(0.1), lambda params: ours_optax.RMSprop(params, 0.1)),
    (optax.rmsprop(0.1, **RMS), lambda params: ours_optax.RMSprop(params, 0.1, **RMS)),
    (optax.adagrad(0.1), lambda params: ours_optax.Adagrad(params, 0.1)),
    (
        optax.rmsprop(0.1, bias_correction=True, initial_scale=0.5),
        lambda params: ours_optax.RMSprop(params, 0.1, bias_correction=True, **X64),
    ),
    (optax.adam(0.1, b1=0.8), lambda params: ours_optax.Adam(params, 0.1, (0.8, 0.999), **X64)),
    (
        optax.adamw(0.1, weight_decay=0.01, eps_root=1e-6, nesterov=True),
        lambda params: ours_optax.AdamW(
            params, 0.1, eps_root=1e-6, weight_decay=0.01, nesterov=True, **X64
        ),
    ),
]


@pytest.mark.usefixtures("exact_rsqrt")
@pytest.mark.parametrize(("tx", "make"), OPTAX)
def test_an_optax_training_goes_on_here_and_back_there(tx, make):
    params = optax_params()
    *_, (_, params, state) = optax_steps(tx, params, tx.init(params), 0, STEPS)
    entries, own = mapped(torch_model())
    ours = make(own.values())
    assert from_optax(state, nested(entries), ours, params) is ours
    steps = steps_if_needed(ours, STEPS)
    assert same_trees(to_optax(ours, state, entries, params, **steps), (state, params))

    theirs = optax_steps(tx, params, state, STEPS, 2 * STEPS)
    for grads, _, _ in theirs:
        step_here(ours, own, grads)
    steps = steps_if_needed(ours, 2 * STEPS)
    empty = jax.eval_shape(tx.init, params)
    back = to_optax(ours, empty, entries, params, **steps)
    assert same_trees(back, theirs[-1][:0:-1])
    (_, *there), (_, *here) = (
        optax_steps(tx, params, state, 2 * STEPS, 2 * STEPS + 1)[0]
        for params, state in (theirs[-1][1:], back[::-1])
    )
    assert same_trees(there, here)


def steps_if_needed(optimizer, steps):
    return {} if optimizer.rule.counts else {"steps": steps}


def test_what_is_around_the_optimizer_is_looked_through():
    """Clipping, a schedule, a mask, a partition and injected hyper-parameters around Adam's state;
    of the frozen bias there is none."""
    frozen = {"conv/kernel": "adam", "conv/bias": "none", "dense/kernel": "adam"}
    adam = optax.inject_hyperparams(optax.adamw)(
        learning_rate=optax.linear_schedule(0.5, 0.25, 2 * STEPS),
        b1=0.75,
        weight_decay=0.5,
        mask={"conv": {"kernel": True, "bias": False}, "dense": {"kernel": True, "bias": False}},
    )
    tx = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.partition(
            {"adam": adam, "none": optax.set_to_zero()}, nested(frozen | {"dense/bias": "adam"})
        ),
        optax.scale_by_schedule(lambda count: 1.0),
    )
    params = optax_params()
    *_, (_, params, state) = optax_steps(tx, params, tx.init(params), 0, STEPS)
    entries, own = mapped(torch_model())
    groups = [
        {"params": [own["conv/kernel"], own["dense/kernel"]], "weight_decay": 0.1},
        {"params": [own["dense/bias"]], "weight_decay": 0},
    ]
    ours = ours_optax.AdamW(groups)
    from_optax(state, nested(entries), ours, params)
    assert [group["lr"] for group in ours.param_groups] == [pytest.approx(0.5 - 0.25 / 3)] * 2
    assert [group["betas"] for group in ours.param_groups] == [(0.75, pytest.approx(0.999))] * 2
    assert [group["weight_decay"] for group in ours.param_groups] == [0.5, 0]
    assert own["conv/bias"] not in ours.state
    assert all(torch.equal(own[name], here(name, leaf)) for name, leaf in flat(params).items())
    again = to_optax(ours, tx.init(params), entries, params)
    assert same_trees(again, (state, params))
    ours.param_groups[0]["betas"] = (0.5, 0.5)
    with pytest.raises(ValueError, match=r"the param groups have b1=0.5 and 0.75: make it one"):
        to_optax(ours, state, entries)


def flat(tree):
    return dict(zip(SHAPES, in_order(tree), strict=True))


def test_weights_stay_where_no_parameters_are_given():
    tx, (entries, own) = optax.adam(0.1), mapped(torch_model())
    before = {name: param.detach().clone() for name, param in own.items()}
    ours = ours_optax.Adam(own.values())
    from_optax(tx.init(optax_params()), entries, ours)
    assert all(torch.equal(own[name], before[name]) for name in own)


@pytest.mark.parametrize(
    "params_map",
    [
        lambda kernel, bias: {"a/~/b": {"w": kernel}, "c": [bias]},
        lambda kernel, bias: {"a/~/b/w": kernel, "c/0": bias},
        lambda kernel, bias: {("a/~/b", "w"): kernel, ("c", 0): bias},
    ],
)
def test_paths_are_those_of_the_tree_in_any_writing(params_map):
    tree = {"a/~/b": {"w": jnp.ones((2, 3))}, "c": [jnp.ones(3)]}
    kernel, bias = another((3, 2)), another((3,))
    ours = ours_optax.Adagrad([kernel, bias])
    tx = optax.adagrad(0.1, initial_accumulator_value=0.5)
    from_optax(tx.init(tree), params_map((kernel, np.transpose), bias), ours)
    assert ours.state[kernel]["sum"].tolist() == [[0.5, 0.5]] * 3


@pytest.mark.parametrize("case", sorted(REFUSED_MAPS.keys() - {"a variable twice"}))
def test_a_map_that_does_not_fit_optax_is_refused_and_nothing_written(case):
    make, message = REFUSED_MAPS[case]
    params = optax_params()
    wrong = dict(make(mapped(torch_model())[0]))
    own = [entry[0] if isinstance(entry, tuple) else entry for entry in wrong.values()]
    own = list({id(param): param for param in own if isinstance(param, nn.Parameter)}.values())
    ours = ours_optax.Adam(own)
    for param in own:
        param.data.fill_(7)
    state = optax.adam(0.1).init(params)
    with pytest.raises((ValueError, TypeError), match=message):
        from_optax(state, wrong, ours, params)
    with pytest.raises((ValueError, TypeError)):
        to_optax(ours, state, wrong, params)
    assert all(torch.all(param == 7) for param in own)
    assert not ours.state


REFUSED_STATES = {
    "another optimizer": (
        optax.sgd(0.1, 0.9),
        "has momentum_buffer, optax.Adam .* exp_avg, exp_av",
    ),
    "without slots": (
        optax.sgd(0.1),
        "kernel: the state has no slots, optax.Adam with its options",
    ),
    "amsgrad": (optax.amsgrad(0.1), "the state has a ScaleByAmsgradState, which is not part of a"),
    "accumulation": (
        optax.MultiSteps(optax.adam(0.1), 2),
        "the state has a MultiStepsState, which",
    ),
    "noise": (optax.chain(optax.add_noise(0.1, 0.1, 0), optax.adam(0.1)), "has a AddNoiseState"),
    "two optimizers": (optax.chain(optax.adam(0.1), optax.adam(0.1)), "has two optimizers of "),
    "mu_dtype": (
        optax.adam(0.1, mu_dtype="bfloat16"),
        "exp_avg is bfloat16 there and float32 here",
    ),
    "other options": (
        optax.inject_hyperparams(lambda eps, rho: optax.adam(rho))(1e-3, 0.1),
        "the state has hyper-parameters of another optimizer: rho",
    ),
    "an option out of range": (
        optax.inject_hyperparams(optax.adam)(-0.5),
        "Invalid learning rate: -0.5",
    ),
}


@pytest.mark.parametrize("case", REFUSED_STATES)
def test_a_state_that_is_not_the_optimizer_s_is_refused_and_nothing_written(case):
    tx, message = REFUSED_STATES[case]
    params, (entries, own) = optax_params(), mapped(torch_model())
    ours = ours_optax.Adam(own.values(), lr=0.25)
    before = [param.detach().clone() for param in own.values()]
    with pytest.raises(ValueError, match=message):
        from_optax(tx.init(params), entries, ours, params)
    assert not ours.state
    assert ours.param_groups[0]["lr"] == 0.25
    assert all(map(torch.equal, own.values(), before))


def test_slots_weights_and_optimizer_must_be_of_the_same_parameters():
    params, (entries, own) = optax_params(), mapped(torch_model())
    state = optax.adam(0.1).init(params)
    longer = nested(flat(params) | {"conv/bias": jnp.ones(4)})
    ours = ours_optax.Adam(own.values())
    with pytest.raises(ValueError, match=r"conv/bias has the shape \(4,\), its parameter here"):
        from_optax(state, entries, ours, longer)
    without = {name: entry for name, entry in entries.items() if name != "conv/bias"}
    with pytest.raises(ValueError, match="the map lacks conv/bias of the tree of parameters"):
        from_optax((), without, ours_optax.SGD([own["dense/bias"]]), params)
    fewer = ours_optax.Adam([own["conv/bias"]])
    with pytest.raises(ValueError, match="slots of conv/kernel, whose parameter the optimizer lac"):
        from_optax(state, {"conv/kernel": entries["conv/kernel"]} | entries, fewer)
    assert not ours.state
    assert not fewer.state


def test_bias_correction_is_the_state_s_and_the_optimizer_s():
    entries, own = mapped(torch_model())
    for corrected in (True, False):
        state = optax.rmsprop(0.1, bias_correction=corrected).init(optax_params())
        ours = ours_optax.RMSprop(own.values(), bias_correction=not corrected)
        for move in (from_optax, lambda s, e, o: to_optax(o, s, e)):
            with pytest.raises(ValueError, match=f"the state is of bias_correction={corrected}"):
                move(state, entries, ours)


def test_counts_that_differ_are_refused_and_those_that_are_not_kept_asked_for():
    entries, own = mapped(torch_model())
    tx = optax.sgd(lambda count: 0.1)
    params = optax_params()
    ours = ours_optax.SGD(own.values())
    with pytest.raises(ValueError, match="SGD counts no steps, the state does: give steps="):
        to_optax(ours, tx.init(params), entries)
    assert int(to_optax(ours, tx.init(params), entries, steps=7)[1].count) == 7
    adam, schedule = optax.adam(lambda count: 0.1).init(params)
    with pytest.raises(ValueError, match="the state's counts differ, 0 and 3"):
        from_optax((adam, schedule._replace(count=3)), entries, ours_optax.Adam(own.values()))
