"""Our dialects against Keras and Optax themselves, each step from the package's own state."""

import dataclasses
import importlib.util
import inspect
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.thinned import in_turn, only
from torchopt_ref.cli import main
from torchopt_ref.optim import keras, optax
from torchopt_ref.sides import BY_NAME, Configuration
from torchopt_ref.testing.parity import against, packages, workload
from torchopt_ref.testing.parity.against import Case, cases, compare, names_of, record_given

MISSING = [name for name in packages.PROVEN if importlib.util.find_spec(name) is None]
if MISSING:
    pytest.skip(
        f"{', '.join(MISSING)}: not installed: pip install 'torchopt-ref[dialects]'",
        allow_module_level=True,
    )

CASES = [case for package in packages.SIDES for case in cases(names_of(package))]
WIDE = ("float32", "float64")
OURS = ("kernel", against.REFERENCE)
each_dtype = pytest.mark.parametrize("dtype", WIDE)

own_rounding = pytest.mark.skipif(
    packages.xla_is_exact(), reason="the XLA of this JAX rounds as IEEE-754"
)


SHAPE = workload.SHAPES["matrix"]
"""That of nearly all parameters here, for XLA compiles each operation for each shape, in 40 ms."""


def case_of(name, **options):
    return Case(Configuration(BY_NAME[name], options))


def record(case, dtype, steps, **how):
    """What ``against.record`` does, with two arrays of one shape if the case compares several."""
    if case.arrays in (against.ONE_ELEMENT, against.LONE):
        return against.record(case, dtype, steps, **how)
    params, *gradients = [
        {"matrix": arrays["matrix"], "turned": arrays["matrix"][::-1]}
        for arrays in (workload.parameters(dtype), *workload.standard_gradients(dtype, steps))
    ]
    return record_given(case, params, gradients, **how)


def assert_equal(recorded, **how):
    for engine in OURS:
        report = compare(recorded, engine, **how)
        assert (report.max_ulp_param, report.max_ulp_state) == (0, 0), f"{engine}\n{report}"


def seen_only_here(case):
    """Other options are tried below, in fewer steps."""
    small = case.arrays in (against.ONE_ELEMENT, against.LONE)
    return small or case.scheduled or not case.configuration.options


@pytest.mark.parametrize(("case", "dtype"), in_turn(CASES, WIDE, usual=seen_only_here))
def test_each_step_is_the_packages(case, dtype):
    """To the bit; where XLA rounds in its own way within the bound, and to the bit without that."""
    recorded = record(case, dtype, steps=4)
    if against.stated_bound(case) == ("max_ulp", 0):
        assert_equal(recorded)
        return
    for engine in OURS:
        row = against.make_row(recorded, engine, dtype, compare(recorded, engine))
        assert row.passed, str(row)
    assert_equal(record(case, dtype, steps=4, exact=True))


@pytest.mark.parametrize(
    ("case", "dtype"),
    in_turn(
        [case for case in CASES if case.arrays not in (against.ONE_ELEMENT, against.LONE)], WIDE
    ),
)
def test_every_rounding_of_a_step_shows(case, dtype):
    """Beside parameters of 0 and with a learning rate of 1; else many are lost in the sum."""
    rng = np.random.default_rng(0)
    params = {name: np.zeros(SHAPE, dtype) for name in "ab"}
    gradients = [
        {
            name: (rng.standard_normal(SHAPE) * 10.0 ** rng.uniform(-3, 3, SHAPE)).astype(dtype)
            for name in params
        }
        for _ in range(2)
    ]
    known, options = case.configuration
    case = Case(Configuration(known, options | {"lr": 1.0}))
    exact = against.stated_bound(case) != ("max_ulp", 0)
    assert_equal(record_given(case, params, gradients, exact=exact))


@pytest.mark.parametrize("name", ["keras.SGD", "keras.Adam", "optax.SGD", "optax.RMSprop"])
def test_with_64_bits_enabled_float32_is_the_same(name):
    options = {"eps_in_sqrt": False} if name == "optax.RMSprop" else {}
    assert_equal(record(case_of(name, **options), "float32", steps=4, x64=True))


@each_dtype
@pytest.mark.parametrize("name", ["keras.Adam", "optax.Adam"])
def test_adam_stays_equal_when_each_side_goes_on_from_its_own_state(name, dtype):
    assert_equal(record(case_of(name), dtype, steps=12), each_step=False)


def test_every_option_of_every_class_is_tried():
    for name in [*names_of("keras"), *names_of("optax")]:
        mine = [case for case in CASES if case.configuration.name == name]
        tried = {"lr"} if any(case.scheduled for case in mine) else set()
        for case in mine:
            tried |= case.configuration.options.keys()
        parameters = inspect.signature(BY_NAME[name].ours).parameters
        assert tried == parameters.keys() - {"params", "flags"}, name


def epsilon_outside(param, grad, slots, *, lr, alpha, eps, momentum):
    s = alpha * slots["square_avg"] + (1 - alpha) * (grad * grad)
    return param - lr * grad / (keras.sqrt(s) + eps), {"square_avg": s}


def lr_outside(param, grad, slots, *, lr, momentum, nesterov):
    v = momentum * slots["momentum_buffer"] + grad
    return param - lr * v, {"momentum_buffer": v}


def wide_keras(group, step, dtype):
    return keras.adam_rounded(group, step, torch.float64)


def wide_optax(group, step, dtype):
    return optax.adam_rounded(group, step, torch.float64)


@pytest.mark.parametrize(
    ("name", "options", "change"),
    [
        ("keras.RMSprop", {}, {"update": epsilon_outside}),
        ("keras.SGD", {"momentum": 0.9}, {"update": lr_outside}),
        ("keras.Adam", {}, {"rounded_scalars": wide_keras}),
        ("optax.Adam", {}, {"rounded_scalars": wide_optax}),
    ],
)
def test_a_formula_that_differs_is_found(name, options, change):
    recorded = record(case_of(name, **options), "float32", steps=6)
    known = BY_NAME[name]
    rule = dataclasses.replace(known.ours.rule, **change)
    mutant = type(known.ours.__name__, (known.ours,), {"rule": rule})
    case = Case(Configuration(known._replace(ours=mutant), options))
    report = compare(dataclasses.replace(recorded, case=case), "kernel")
    assert not against.make_row(recorded, "kernel", "float32", report).passed


@own_rounding
def test_the_reciprocal_root_is_named():
    recorded = record(case_of("optax.Adagrad"), "float32", steps=6)
    row = against.make_row(recorded, "kernel", "float32", compare(recorded, "kernel"))
    tally = row.at_fault["rsqrt"]
    assert row.at_fault.keys() == {"rsqrt"}
    assert 0 < tally.different < tally.elements
    assert tally.max_ulp <= 2
    assert f"rsqrt: {tally.different / tally.elements:.1%} of elements, up to" in str(row)


@own_rounding
def test_a_correction_by_the_reciprocal_is_named():
    lone = Case(Configuration(BY_NAME["optax.Adam"], {}), against.LONE)
    one = Case(Configuration(BY_NAME["optax.Adam"], {"x64": True}), against.ONE_ELEMENT)
    for case in (lone, one):
        at_fault = record(case, "float32", steps=6).at_fault
        assert at_fault.keys() == {"bias correction"}
        assert at_fault["bias correction"].max_ulp == 1


@pytest.mark.parametrize("dtype", only(["float32"], WIDE))
def test_what_is_not_flushed_differs_in_denormal_numbers_only(dtype):
    """But where epsilon is 0, so that it is divided by what is 0 in the package."""
    smallest = np.finfo(dtype).tiny
    for case in CASES:
        options = case.configuration.options
        if options.get("eps") == 0 or options.get("eps_in_sqrt") is False:
            continue
        recorded = record(case, dtype, steps=2, exact=True)
        report = compare(recorded, "kernel", flush=False)
        assert report.max_abs <= smallest, f"{case}\n{report}"


def special(dtype, seed=0):
    """Parameters, some of them denormal, and gradients with all that a float can be."""
    rng = np.random.default_rng(seed)
    info = np.finfo(dtype)
    values = [0.0, -0.0, np.inf, -np.inf, np.nan, info.tiny / 8, info.max, -info.tiny, 1.0]
    params = {
        "matrix": rng.standard_normal(SHAPE),
        "denormal": np.full(SHAPE, info.tiny / 4),
        "scalar": np.array(-0.0),
    }
    params = {name: array.astype(dtype) for name, array in params.items()}
    turns = [
        {name: np.resize(np.roll(values, -turn), array.shape) for name, array in params.items()}
        for turn in (0, 5)
    ]
    plain = {name: rng.standard_normal(array.shape) for name, array in params.items()}
    return params, [
        {name: np.asarray(grad, dtype) for name, grad in grads.items()}
        for grads in (plain, turns[0], plain, turns[1])
    ]


EXTREMES = {
    "keras.SGD": [{"lr": 1e-30, "momentum": 0.999}, {"lr": 0.0, "weight_decay": 3.0}],
    "keras.Adagrad": [{"eps": 0.0, "initial_accumulator_value": 0.0}],
    "keras.RMSprop": [{"alpha": 0.0, "eps": 0.0}, {"alpha": 0.999999, "centered": True}],
    "keras.Adam": [{"betas": (0.0, 0.0), "eps": 0.0}, {"betas": (0.99999, 0.9999999)}],
    "keras.AdamW": [{"weight_decay": 0.5, "lr": 3.0}],
    "optax.SGD": [{"lr": 1e-30, "momentum": 0.999, "nesterov": True}, {"lr": 0.0}],
    "optax.Adagrad": [{"eps": 0.0, "initial_accumulator_value": 0.0}],
    "optax.RMSprop": [{"alpha": 0.0, "eps": 0.0, "bias_correction": True}, {"lr": 1e-40}],
    "optax.Adam": [{"betas": (0.0, 0.0), "eps": 0.0, "nesterov": True}, {"lr": 1e-30}],
    "optax.AdamW": [{"weight_decay": 0.0, "betas": (0.99999, 0.9999999)}],
}


@pytest.mark.parametrize(("name", "dtype"), in_turn(EXTREMES, WIDE))
def test_infinite_undefined_and_extreme_numbers_are_treated_alike(name, dtype):
    for options in EXTREMES[name]:
        params, gradients = special(dtype)
        assert_equal(record_given(case_of(name, **options), params, gradients, exact=True))


unit = st.floats(0, 1, exclude_max=True, width=32)


@settings(max_examples=3)
@given(st.data())
@pytest.mark.parametrize("name", ["keras.Adam", "keras.RMSprop", "optax.Adam", "optax.RMSprop"])
def test_any_hyper_parameters(name, data):
    options = {"lr": data.draw(st.floats(0, 10)), "eps": data.draw(st.floats(0, 1))}
    if name.endswith("Adam"):
        options["betas"] = data.draw(unit), data.draw(unit)
    else:
        options |= {"alpha": data.draw(unit), "momentum": data.draw(unit)}
        options["centered"] = data.draw(st.booleans())
    params, gradients = special("float32", data.draw(st.integers(0, 99)))
    assert_equal(record_given(case_of(name, **options), params, gradients, exact=True))


def settings_of_the_process():
    """What a comparison changes while it lasts."""
    jax, floatx = packages.load("jax"), packages.load("keras").config.floatx()
    state = jax.config.jax_enable_x64, jax.config.jax_default_device, floatx, packages.flushes()
    return state, dict(os.environ), torch.get_num_threads()


def test_nothing_stays_changed(monkeypatch):
    keras = packages.load("keras")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    keras.config.set_floatx("float64")
    try:
        before = settings_of_the_process()
        assert_equal(record(case_of("keras.Adam"), "float64", steps=2))
        assert_equal(record(case_of("keras.Adam"), "float32", steps=2))
        with pytest.raises(TypeError):
            record(case_of("keras.Adam", lr=None), "float64", steps=2)
        assert settings_of_the_process() == before
    finally:
        keras.config.set_floatx("float32")


def test_flushing_is_seen_and_put_back():
    for before in (False, True):
        torch.set_flush_denormal(before)
        try:
            with packages.flushed():
                assert packages.flushes()
            assert packages.flushes() is before
        finally:
            torch.set_flush_denormal(False)


SGD = ["parity", "--against", "keras", "--optimizers", "keras.sgd", "--dtypes", "float32"]


def test_the_command_shows_versions_rows_and_writes_json(tmp_path, capsys):
    file = tmp_path / "rows.json"
    assert main([*SGD, "--steps", "2", "--engines", "kernel", "--json", str(file)]) == 0
    versions, denormal, header, *lines, total = capsys.readouterr().out.splitlines()
    assert versions.startswith(f"keras {packages.load('keras').__version__}, jax ")
    assert denormal.startswith("denormal numbers are zero on both sides")
    assert header.split()[:3] == ["optimizer", "engine", "dtype"]
    rows = json.loads(file.read_text())
    assert len(rows) == len(lines) == 2 * len(list(cases(["keras.SGD"])))
    assert total == f"{len(rows)} rows, 0 above their bound"
    assert {row["engine"] for row in rows} == set(OURS)
    for row in rows:
        assert (row["against"], row["max_ulp_param"], row["max_ulp_state"]) == ("keras", 0, 0)
        assert (row["bound"], row["bound_on"], row["passed"]) == (0, "max_ulp", True)


def test_another_version_is_noted_and_a_row_above_its_bound_fails(capsys, monkeypatch):
    monkeypatch.setitem(packages.PROVEN, "optax", ("0.0.1",))
    monkeypatch.setattr(against, "stated_bound", lambda case: ("max_ulp", -1))
    command = ["parity", "--against", "optax", "--optimizers", "optax.sgd", "--steps", "3"]
    assert main([*command, "--dtypes", "float32", "--engines", "kernel"]) == 1
    assert "note: the bounds are proven for optax 0.0.1\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--against", "kers"], "unknown package 'kers': did you mean 'keras'?"),
        (["--network"], "omit --network and --device"),
        (["--device", "cuda"], "omit --network and --device"),
        (["--dtypes", "float16"], "unknown dtype 'float16'"),
        (["--optimizers", "Adam"], "unknown optimizer 'Adam'"),
    ],
)
def test_what_is_not_offered_is_refused_in_one_line(options, said, capsys):
    assert main([*SGD, *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_keras_with_another_backend_is_one_line():
    code = "import sys, keras; from torchopt_ref.cli import main; "
    code += "sys.exit(main(['parity', '--against', 'keras']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"KERAS_BACKEND": "numpy"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    said = "torchopt-ref: this process has imported Keras with the backend 'numpy': compare in "
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
