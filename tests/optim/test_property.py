"""Random shapes, options and gradients: always 0 ULP against the reference."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from torchopt_ref.sides import BY_NAME
from torchopt_ref.testing import check_parity

unit = st.floats(0, 0.999)
positive = st.floats(1e-10, 10)
decay = {"weight_decay": st.floats(0, 1)}
around = decay | {"maximize": st.booleans()}
SEARCH = {
    "SGD": {"momentum": unit, "dampening": unit, **around},
    "Momentum": {"momentum": unit, **around},
    "Nesterov": {"momentum": st.floats(0.01, 0.999), **around},
    "AdaGrad": {"lr_decay": unit, "initial_accumulator_value": positive, "eps": positive, **around},
    "RMSprop": {
        "alpha": unit,
        "eps": positive,
        "momentum": unit,
        "centered": st.booleans(),
        **around,
    },
    "Adam": {
        "betas": st.tuples(unit, unit),
        "eps": positive,
        "amsgrad": st.booleans(),
        "decoupled_weight_decay": st.booleans(),
        **around,
    },
    "book.Nesterov": {"momentum": unit},
    "book.RMSprop": {"alpha": unit, "eps": positive},
    "book.Adam": {"betas": st.tuples(unit, unit), "eps": positive},
    "keras.SGD": {"momentum": unit, "nesterov": st.booleans(), **decay},
    "keras.Adagrad": {"initial_accumulator_value": positive, "eps": positive, **decay},
    "keras.RMSprop": {
        "alpha": unit,
        "eps": positive,
        "momentum": unit,
        "centered": st.booleans(),
        **decay,
    },
    "keras.Adam": {
        "betas": st.tuples(unit, unit),
        "eps": positive,
        "amsgrad": st.booleans(),
        **decay,
    },
    "optax.SGD": {"momentum": unit, "nesterov": st.booleans()},
    "optax.Adagrad": {"initial_accumulator_value": positive, "eps": positive},
    "optax.RMSprop": {
        "alpha": unit,
        "eps": positive,
        "initial_scale": positive,
        "momentum": unit,
        **dict.fromkeys(
            ("eps_in_sqrt", "centered", "nesterov", "bias_correction", "x64"), st.booleans()
        ),
    },
    "optax.AdamW": {
        "betas": st.tuples(unit, unit),
        "eps": positive,
        "eps_root": positive,
        "nesterov": st.booleans(),
        "x64": st.booleans(),
        **decay,
    },
}


@given(st.data(), st.sampled_from([*SEARCH]), st.sampled_from(["float32", "float64"]))
def test_any_options_any_shape_any_gradients(data, name, dtype):
    known, options = BY_NAME[name], {"lr": data.draw(positive)}
    for option, values in SEARCH[name].items():
        if data.draw(st.booleans()):
            options[option] = data.draw(values)
    shape = data.draw(hnp.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=4))
    arrays = hnp.arrays(np.dtype(dtype), shape)
    params = {"p": data.draw(arrays)}
    grads = [{"p": data.draw(arrays)} for _ in range(data.draw(st.integers(1, 4)))]
    report = check_parity(
        lambda ps: known.ours(ps, **options),
        known.reference(**options),
        params=params,
        gradients=grads,
    )
    assert report.first_divergent_step is None, f"{name} {options}\n{report}"
