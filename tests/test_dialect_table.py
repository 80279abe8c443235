"""docs/dialects.md, cell by cell, against torch.optim, the book, Keras and Optax themselves.

A formula is run as it stands in the document, beside the package, from what its row says of the
start. The names of the parameters below are those in the last column of the document's tables.
"""

import inspect
import json
import re
import runpy
from collections.abc import Iterator
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from numpy_ref import book
from torchopt_ref import optim

DOCUMENT = (Path(__file__).parents[1] / "docs" / "dialects.md").read_text(encoding="utf-8")
FAMILIES = {
    "sgd": ("SGD and momentum", "SGD"),
    "adagrad": ("AdaGrad", "Adagrad"),
    "rmsprop": ("RMSprop", "RMSprop"),
    "adam": ("Adam", "Adam"),
    "adamw": ("AdamW", "AdamW"),
}
"""The heading of each family, and the name of its class."""

LETTERS = {
    "lr": "lr",
    "mu": "momentum",
    "tau": "dampening",
    "a": "alpha",
    "eps": "eps",
    "wd": "weight_decay",
    "lr_decay": "lr_decay",
    "eps_root": "eps_root",
}
"""What the letters of the formulas are called here; ``b1`` and ``b2`` are ``betas``."""

VALUES = {"lr": 0.1, "mu": 0.75, "tau": 0.25, "a": 0.875, "b1": 0.75, "b2": 0.875}
VALUES |= {"eps": 0.5, "wd": 0.25, "lr_decay": 0.5, "eps_root": 0.125}
"""Far from the defaults, so that each letter of a formula makes a difference."""

AROUND = {"params", "maximize", "foreach", "fused", "capturable", "differentiable"}
AROUND |= {"decoupled_weight_decay", "kwargs"}
"""Arguments of the packages' classes that are no hyper-parameters; the last is AdamW."""

START = np.array([1.0, -2.0, 0.5, 3.0], dtype=np.float32)
GRADS = np.array([[1.0, -0.5, 0.25, 2.0], [0.5, 0.5, -1.0, 1.0], [-0.25, 1.0, 0.5, 3.0]])
GRADS = GRADS.astype(np.float32)


# The document


def section(heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", DOCUMENT, re.M | re.S)
    assert found, heading
    return found[1]


def tables(heading: str) -> list[list[dict[str, str]]]:
    """The tables of a section, each a list of rows, by the names of the columns."""
    found = []
    for block in re.findall(r"(?:^ *\|.*\n)+", section(heading), re.M):
        head, _, *rows = [re.split(r" *\| *", line.strip())[1:-1] for line in block.splitlines()]
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def plain(cell: str) -> str:
    return cell.replace("**", "")


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]*)`", cell)


class Row(NamedTuple):
    """What the document says of one optimizer."""

    family: str
    framework: str
    cells: dict[str, str]

    @property
    def name(self) -> str:
        """That of the package's class; the book has several in one family."""
        return (code(self.cells[""]) or [FAMILIES[self.family][1]])[0]

    def __str__(self) -> str:
        return "-".join([self.family, self.framework, *code(self.cells[""])])


def rows(families=FAMILIES) -> Iterator[Row]:
    """A row for each formula, with what the other table of the family says of the framework."""
    for family in families:
        forms = tables(FAMILIES["adam" if family == "adamw" else family][0])[0]
        start = {each[""]: each for each in tables("Adam")[1]} if family == "adamw" else {}
        for told in tables(FAMILIES[family][0])[-1]:
            for form in forms:
                if form[""].split()[0] == told[""]:
                    cells = start.get(told[""], {}) | told | form
                    yield Row(family, told[""].lower(), cells)


def eval_option(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    return name, eval(value, {})


def every_row(**which: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", list(rows(**which)), ids=str)


# A formula, run as it is written


def run(statements: list[str], letters: dict[str, Any]) -> None:
    """``p -= lr g`` and the like: what stands beside each other is multiplied."""
    for statement in statements:
        text = re.sub(r"(?<=[\w)]) +(?=[\w(])", " * ", statement).replace("^", "**")
        exec(text, {"sqrt": np.sqrt, "max": np.maximum}, letters)


class Told:
    """The optimizer that a row tells of, in float64."""

    def __init__(self, row: Row, decays: bool = False, **values: float) -> None:
        self.formula = row.cells["formula"].split("<br>")
        self.formula = [each for line in self.formula for each in code(line)]
        self.corrections = code(re.search(r"`t` the step, (.*?)\.", DOCUMENT, re.S)[1])
        self.decay = code(row.cells["weight decay"])[:1] if decays else []
        self.letters = VALUES | values | {"p": START.astype(float), "t": 0}
        self.first = None
        start = row.cells["state starts at"]
        if "in the first step" in start:
            self.first = code(start)
        else:
            run(code(start), self.letters)

    @property
    def param(self) -> np.ndarray:
        return self.letters["p"]

    def step(self, grad: np.ndarray) -> None:
        self.letters |= {"g": grad.astype(float), "t": self.letters["t"] + 1}
        run(self.corrections, self.letters)
        run(self.decay, self.letters)
        formula = self.formula
        if self.first is not None:  # it takes the place of the first statement
            formula, self.first = [*self.first, *formula[1:]], None
        run(formula, self.letters)


# The packages


@pytest.fixture(scope="module", autouse=True)
def backend():
    """Keras looks at this once, when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        patch.setenv("JAX_PLATFORMS", "cpu")
        yield


def package(framework: str):
    return pytest.importorskip(framework, reason=f"{framework} is missing: the extra dialects")


def real_class(row: Row):
    if row.framework == "torch":
        return getattr(torch.optim, row.name)
    if row.framework == "book":
        return getattr(book, {"Adagrad": "AdaGrad"}.get(row.name, row.name))
    if row.framework == "keras":
        return getattr(package("keras").optimizers, row.name)
    return getattr(package("optax"), row.family)


def their_options(row: Row, letters: dict[str, float]) -> dict[str, Any]:
    """``letters`` as arguments of the row's class, those that it has, by the table of names."""
    named = {LETTERS[letter]: value for letter, value in letters.items() if letter in LETTERS}
    betas = (letters["b1"], letters["b2"])
    if row.framework in ("torch", "book"):
        named["betas"] = betas
    else:
        column = {"keras": "Keras", "optax": "Optax"}[row.framework]
        theirs = {code(each["here"])[0]: code(each[column]) for each in tables("Names")[0]}
        named |= {"betas[0]": betas[0], "betas[1]": betas[1]}
        named = {theirs[n][0]: value for n, value in named.items() if theirs.get(n)}
    known = inspect.signature(real_class(row)).parameters
    return {name: value for name, value in named.items() if name in known}


class Real:
    """The package's own optimizer of a row, with one parameter in float32."""

    def __init__(self, row: Row, start=START, schedule=None, **options: Any) -> None:
        self.framework, self.schedule, self.steps = row.framework, schedule, 0
        kind = real_class(row)
        if row.framework == "torch":
            self.tensor = torch.nn.Parameter(torch.tensor(start))
            self.optimizer = kind([self.tensor], **options)
        elif row.framework == "book":
            self.array, self.optimizer = start.copy(), kind(**options)
        elif row.framework == "keras":
            self.variable = package("keras").Variable(start, name="p")
            self.optimizer = kind(**options)
            self.optimizer.build([self.variable])
        else:
            jax = pytest.importorskip("jax.numpy")
            if schedule:
                options["learning_rate"] = lambda count: jax.asarray(schedule)[count]
            self.optimizer, self.jax = kind(**options), jax
            self.array = jax.asarray(start)
            self.state = self.optimizer.init(self.array)

    @property
    def param(self) -> np.ndarray:
        if self.framework == "torch":
            return self.tensor.detach().numpy().copy()
        return np.array(self.variable.value if self.framework == "keras" else self.array)

    def step(self, grad: np.ndarray) -> None:
        if self.schedule:
            self.learn_at(self.schedule[self.steps])
        self.steps += 1
        if self.framework == "torch":
            self.tensor.grad = torch.tensor(grad)
            self.optimizer.step()
        elif self.framework == "book":
            self.optimizer.update({"p": self.array}, {"p": grad})
        elif self.framework == "keras":
            self.optimizer.apply([pytest.importorskip("jax.numpy").asarray(grad)])
        else:
            found = self.optimizer.update(self.jax.asarray(grad), self.state, self.array)
            self.array, self.state = self.array + found[0], found[1]

    def learn_at(self, lr: float) -> None:
        if self.framework == "torch":
            self.optimizer.param_groups[0]["lr"] = lr
        elif self.framework == "book":
            self.optimizer.hyper["lr"] = lr
        elif self.framework == "keras":
            self.optimizer.learning_rate = lr


def named(framework: str, family: str) -> Row:
    """A package's optimizer apart from the tables."""
    return Row(family, framework, {"": ""})


def equal(theirs: np.ndarray, told: np.ndarray) -> None:
    np.testing.assert_allclose(theirs, told, rtol=1e-5, atol=1e-6)


# The tables


@every_row()
def test_formula_and_start(row):
    """Three steps of the package, from its own start, are those that the row tells of."""
    real, told = Real(row, **their_options(row, VALUES | {"wd": 0.0})), Told(row)
    for grad in GRADS:
        real.step(grad)
        told.step(grad)
        equal(real.param, told.param)


@every_row(families=["adagrad", "rmsprop", "adam", "adamw"])
def test_where_epsilon_is(row):
    """What the first step is divided by, without momentum, from what the row says of the start."""
    eps = 4.0
    places = {
        "outside the root": lambda s, c2: np.sqrt(s) + eps,
        "inside the root": lambda s, c2: np.sqrt(s + eps),
        "outside the root, after the correction": lambda v, c2: np.sqrt(v / c2) + eps,
        "outside the root, before the correction": lambda v, c2: (np.sqrt(v) + eps) / np.sqrt(c2),
    }
    letters = VALUES | {"eps": eps, "wd": 0.0, "mu": 0.0, "eps_root": 0.0}
    real, told = Real(row, **their_options(row, letters)), Told(row, eps=eps)
    real.step(GRADS[0])
    told.step(GRADS[0])
    squares = told.letters["v" if row.family.startswith("adam") else "s"]
    divisor = places[plain(row.cells["epsilon"])](squares, told.letters["c2"])
    equal(START - VALUES["lr"] * GRADS[0] / divisor, real.param)


@every_row(families=["sgd"])
def test_where_the_learning_rate_is(row):
    """In a step with a learning rate of 0 only a velocity that has it inside moves anything."""
    real = Real(row, schedule=[0.1, 0.0], **their_options(row, VALUES | {"wd": 0.0}))
    real.step(GRADS[0])
    before = real.param
    real.step(GRADS[1])
    places = {"inside the velocity": True, "outside the velocity": False}
    assert (before != real.param).all() == places[plain(row.cells["learning rate"])]


def test_without_momentum_sgd_is_the_same_in_all():
    assert "Without momentum all four are `p -= lr g`." in DOCUMENT
    for row in rows(["sgd"]):
        letters = VALUES | {"mu": 0.0, "tau": 0.0, "wd": 0.0}
        real = Real(row, **their_options(row, letters))
        real.step(GRADS[0])
        equal(real.param, START - 0.1 * GRADS[0])


@every_row()
def test_weight_decay(row):
    """L2 goes through the state, what is decoupled does not; "none" is an unknown argument."""
    kind = plain(row.cells["weight decay"]).partition(":")[0]
    if kind == "none":
        assert "weight_decay" not in inspect.signature(real_class(row)).parameters
        return
    real, told = Real(row, **their_options(row, VALUES)), Told(row, decays=True)
    for grad in GRADS:
        real.step(grad)
        told.step(grad)
        equal(real.param, told.param)
    real = Real(row, **their_options(row, VALUES))
    for _ in range(3):
        real.step(np.zeros_like(START))
    decoupled = np.allclose(real.param, START * (1 - VALUES["lr"] * VALUES["wd"]) ** 3)
    assert {"L2": False, "decoupled": True}[kind] == decoupled


@every_row()
def test_defaults(row):
    """All of the package's arguments, but for those that the document says are not here."""
    told = dict(eval_option(each) for each in code(row.cells["defaults"]) if "=" in each)
    required = {each for each in code(row.cells["defaults"]) if "=" not in each}
    absent = {
        name
        for each in tables("What is not here")[0]
        if each["option"].lower().startswith(row.framework)
        for name in code(each["option"])
    }
    real = inspect.signature(real_class(row)).parameters
    hyper = {name: real[name].default for name in real if name not in AROUND | absent}
    assert told == {name: value for name, value in hyper.items() if value is not inspect._empty}
    assert required == hyper.keys() - told.keys()


def lines() -> Iterator[tuple[str, str, list[str], str]]:
    """The lines below the tables: family, framework, options, and what they say."""
    for family, (heading, _) in FAMILIES.items():
        pattern = r"^- ((?:`\w+=\S+` )+)\(([\w, ]+)\)(.*?)(?=^- |\Z)"
        for options, frameworks, said in re.findall(pattern, section(heading), re.M | re.S):
            for framework in frameworks.lower().split(", "):
                yield family, framework, code(options), said


def test_every_option_that_changes_a_formula_has_a_line():
    told = {
        (family, framework, option) for family, framework, found, _ in lines() for option in found
    }
    assert {
        ("sgd", "torch", "nesterov=True"),
        ("sgd", "keras", "nesterov=True"),
        ("sgd", "optax", "nesterov=True"),
        ("rmsprop", "optax", "eps_in_sqrt=False"),
        ("rmsprop", "torch", "centered=True"),
        ("rmsprop", "keras", "centered=True"),
        ("rmsprop", "optax", "centered=True"),
        ("rmsprop", "optax", "nesterov=True"),
        ("rmsprop", "optax", "bias_correction=True"),
        ("rmsprop", "optax", "initial_scale=1.0"),
        ("adam", "torch", "amsgrad=True"),
        ("adam", "keras", "amsgrad=True"),
        ("adam", "optax", "nesterov=True"),
    } <= told


@pytest.mark.parametrize(("family", "framework", "options", "said"), list(lines()))
def test_what_an_option_changes(family, framework, options, said):
    row = next(row for row in rows([family]) if row.framework == framework)
    given = dict(map(eval_option, options))
    real = Real(row, **their_options(row, VALUES | {"wd": 0.0}) | given)
    told = Told(row, **{letter: given[name] for letter, name in LETTERS.items() if name in given})
    statements = code(said)
    if "at the start" in said:
        run(statements, told.letters)
    elif "first" in said:
        added, start, new, old = statements
        run([start], told.letters)
        at = next(i for i, each in enumerate(told.formula) if old in each)
        told.formula[at:] = [added, *(each.replace(old, new) for each in told.formula[at:])]
    else:
        new, old = statements
        assert any(old in each for each in told.formula)
        told.formula = [each.replace(old, new) for each in told.formula]
    for grad in GRADS:
        real.step(grad)
        told.step(grad)
        equal(real.param, told.param)


def test_every_row_names_its_tests():
    """And every formula belongs to a row that tells of defaults and start."""
    for family, (heading, _) in FAMILIES.items():
        forms = tables("Adam" if family == "adamw" else heading)[0]
        told = {each[""] for each in tables(heading)[-1]}
        assert told <= {each[""].split()[0] for each in forms} <= told | {"book"}
        assert all(re.fullmatch(r"(`[^`]+`(<br>)?)+", each["formula"]) for each in forms)
        for each in tables(heading)[-1]:
            name = f"{family}-{each[''].lower()}"
            assert each["test"] == f"[`{name}`](../tests/test_dialect_table.py)"
            assert any(str(row).startswith(name) for row in rows([family]))


def test_every_test_that_the_document_names_is_here():
    named = re.findall(r"\(`(test_\w+)`\)", DOCUMENT)
    assert len(named) == section("What no formula shows").count("\n- **")
    assert all(callable(globals().get(name)) for name in named)


def test_the_versions_are_among_the_proven_ones():
    proven = pytest.importorskip("torchopt_ref.testing.parity.packages").PROVEN
    told = dict(re.findall(r"(keras|optax|jax) ([\d.]+\d)", DOCUMENT))
    assert told.keys() == proven.keys()
    assert all(version in proven[name] for name, version in told.items())


# Names


@pytest.mark.parametrize("framework", ["Keras", "Optax"])
def test_the_names_of_options_are_all_those_of_a_dialect(framework):
    dialect = getattr(optim, framework.lower())
    ours = {code(each["here"])[0]: code(each[framework]) for each in tables("Names")[0]}
    ours = {name: theirs[0] for name, theirs in ours.items() if theirs}
    renamed = {theirs: name for name, theirs in ours.items() if theirs != name and name != "x64"}
    assert renamed == dialect.NAMES
    real = {
        name
        for row in rows()
        if row.framework == framework.lower()
        for name in inspect.signature(real_class(row)).parameters
    }
    assert set(ours.values()) - {"jax_enable_x64"} <= real
    classes = (getattr(dialect, name) for _, name in FAMILIES.values())
    options = {name for each in classes for name in inspect.signature(each).parameters}
    assert {name.partition("[")[0] for name in ours} == options - {"params", "flags"}


@pytest.mark.parametrize("framework", ["keras", "optax"])
@pytest.mark.parametrize("family", ["sgd", "adagrad", "rmsprop", "adam"])
def test_the_names_of_the_state(framework, family):
    """Each name, with the values that it has here after a step."""
    row = named(framework, family)
    column = {"keras": "Keras", "optax": "Optax"}[framework]
    names = {
        code(each["here"])[0]: code(each[column])[0]
        for each in tables("Names")[1]
        if each["here"].split()[0].lower() == family and each[column]
    }
    options = {"sgd": {"momentum": 0.9}, "rmsprop": {"momentum": 0.9, "centered": True}}.get(
        family, {}
    )
    if framework == "keras" and family == "adam":
        options = {"amsgrad": True}
    real = Real(row, **{"learning_rate": 0.1} | options)
    real.step(GRADS[0])
    param = torch.nn.Parameter(torch.tensor(START))
    ours = getattr(getattr(optim, framework), row.name)([param], lr=0.1, **options)
    param.grad = torch.tensor(GRADS[0])
    ours.step()
    assert names.keys() == ours.state[param].keys() - {"step"}
    if framework == "keras":
        theirs = {each.name.removeprefix("p_"): each.value for each in real.optimizer.variables}
    else:
        theirs = dict(fields(real.state))
    for mine, name in names.items():
        equal(np.array(theirs[name]), ours.state[param][mine].numpy())


def fields(state: Any) -> Iterator[tuple[str, Any]]:
    """The named fields of Optax' nested state."""
    if hasattr(state, "_fields"):
        yield from zip(state._fields, state, strict=True)
    for part in state if isinstance(state, tuple) else ():
        yield from fields(part)


def test_what_is_said_not_to_be_here():
    """Options that some class of the framework has and ours do not, and what torch has instead."""
    for each in tables("What is not here")[0]:
        framework = each["option"].split()[0].lower()
        theirs = [row for row in rows() if row.framework == framework]
        known = {name for row in theirs for name in inspect.signature(real_class(row)).parameters}
        assert known.issuperset(code(each["option"]))
        for name in code(each["instead"]):
            if name.startswith("torch."):
                assert attrgetter(name.removeprefix("torch."))(torch)


# What no formula shows


def said_by(test: str) -> str:
    """The paragraph that names the test."""
    bullets = re.split(r"^- \*\*", section("What no formula shows"), flags=re.M)
    (found,) = [each for each in bullets if f"`{test}`" in each]
    return " ".join(found.split())


def test_adams_epsilon_before_the_correction():
    (table,) = tables("What no formula shows")
    steps = [int(step) for step in list(table[0])[1:]]
    shown = dict(zip(steps, list(table[0].values())[1:], strict=True))
    for step, factor in shown.items():
        assert float(factor) == float(f"{np.sqrt(1 - 0.999**step):.3g}")
    said = said_by("test_adams_epsilon_before_the_correction")
    assert "what `eps sqrt(1 - b2^t)` does in Keras" in said
    for step in (1, 10):
        epsilon = 0.5 * float(np.sqrt(1 - 0.999**step))
        theirs = Real(named("keras", "adam"), learning_rate=1.0, epsilon=epsilon)
        ours = Real(named("torch", "adam"), lr=1.0, eps=0.5)
        moved = []
        for real in (theirs, ours):
            for i in range(step):
                before = real.param
                real.step(GRADS[i % 3])
            moved.append(real.param - before)
        equal(*moved)


def test_a_fall_of_the_learning_rate_and_the_velocity():
    found = {}
    for framework in ("torch", "keras", "optax"):
        rate = {"torch": "lr"}.get(framework, "learning_rate")
        schedule = [1.0] * 100 + [0.1] * 11
        real = Real(named(framework, "sgd"), schedule=schedule, **{rate: 1.0, "momentum": 0.9})
        moved = []
        for _ in schedule:
            before = real.param
            real.step(np.ones_like(START))
            moved.append((before - real.param)[0])
        found[framework] = [f"{moved[i] / moved[99]:.2g}" for i in (100, 109)]
    assert found["torch"] == found["optax"] == ["0.1", "0.1"]
    said = said_by("test_a_fall_of_the_learning_rate_and_the_velocity")
    first, later = found["keras"]
    assert f"and {first} in Keras; after ten steps it still is {later} " in said


def test_the_first_step_of_adagrad():
    said = said_by("test_the_first_step_of_adagrad")
    steps = []
    for framework in ("torch", "keras", "optax"):
        real = Real(
            named(framework, "adagrad"),
            np.zeros(2, np.float32),
            **{"lr" if framework == "torch" else "learning_rate": 1.0},
        )
        real.step(np.full(2, 0.01, np.float32))
        steps.append(f"{-real.param[0]:.3g}")
    assert f"is {steps[0]} lr in torch, {steps[1]} lr in Keras and Optax" in said
    assert steps[1] == steps[2]


def test_adagrad_where_nothing_has_been_seen():
    stays = {}
    for framework in ("torch", "keras", "optax"):
        options = {
            "initial_accumulator_value": 0.0,
            "epsilon" if framework == "keras" else "eps": 0.0,
        }
        if framework == "optax":
            options["learning_rate"] = 0.1
        real = Real(named(framework, "adagrad"), **options)
        real.step(np.array([0, 0, 1, 1], np.float32))
        stays[framework] = real.param[:2].tolist() == START[:2].tolist()
        assert stays[framework] or np.isnan(real.param[:2]).all()
    assert stays == {"torch": False, "keras": False, "optax": True}


def test_the_learning_rate_of_keras():
    rate = package("keras").optimizers.SGD(0.001).learning_rate
    assert f"0.001 is {float(rate)!r}" in said_by("test_the_learning_rate_of_keras")


def test_adams_correction_in_32_bits():
    optax, jax = package("optax"), pytest.importorskip("jax")

    # Before JAX 0.8 it was in another module.
    enable_x64 = (
        jax if hasattr(jax, "enable_x64") else import_module("jax.experimental")
    ).enable_x64

    def first_step(x64: bool) -> float:
        with enable_x64(x64):
            zeros = jax.numpy.zeros(2, "float32")
            adam = optax.adam(1.0)
            update, _ = adam.update(zeros + 1, adam.init(zeros), zeros)
            return float(update[0])

    assert abs(first_step(True) + 1) < 1e-7
    said = said_by("test_adams_correction_in_32_bits")
    # The second digit has changed with JAX' powers.
    assert f"is {1 + first_step(False):.1g} times its size too short" in said
    for x64 in (False, True):
        param = torch.nn.Parameter(torch.zeros(2))
        param.grad = torch.ones(2)
        optim.optax.Adam([param], lr=1.0, x64=x64).step()
        assert param[0].item() == pytest.approx(first_step(x64), rel=1.2e-7)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_what_counts_the_steps():
    keras, jax = package("keras"), pytest.importorskip("jax.numpy")
    variables = [keras.Variable(START), keras.Variable(START)]
    adam = keras.optimizers.Adam(1.0)
    adam.build(variables)
    for late in (None, None, jax.ones(4)):
        adam.apply([jax.ones(4), late])
    moved = float(START[0] - np.array(variables[1].value)[0])
    for kind, step in ((torch.optim.Adam, 1), (optim.keras.Adam, 1)):
        params = [torch.nn.Parameter(torch.tensor(START)) for _ in range(2)]
        optimizer = kind(params, lr=1.0)
        for late in (None, None, torch.ones(4)):
            params[0].grad, params[1].grad = torch.ones(4), late
            optimizer.step()
        assert optimizer.state[params[1]]["step"] == step
    assert moved == pytest.approx(0.1 * np.sqrt(1 - 0.999**3) / (1 - 0.9**3) / np.sqrt(0.001), 1e-4)


def test_centered_rmsprop_under_a_constant_gradient():
    grad = np.geomspace(0.1, 1000, 50).astype(np.float32)
    for framework in ("torch", "keras", "optax"):
        rate = {"torch": {"lr": 0.001, "alpha": 0.9}}.get(framework, {"learning_rate": 0.001})
        real = Real(named(framework, "rmsprop"), np.zeros(50, np.float32), centered=True, **rate)
        for _ in range(200):
            real.step(grad)
        assert np.isnan(real.param).any(), framework
    param = torch.nn.Parameter(torch.zeros(50))
    param.grad = torch.tensor(grad)
    ours = optim.RMSprop([param], alpha=0.9, centered=True)
    for _ in range(200):
        ours.step()
    assert torch.isfinite(param).all()


def test_denormal_numbers():
    denormal = np.full(2, 1e-40, np.float32)
    assert (np.array(pytest.importorskip("jax.numpy").asarray(denormal) + 0.0) == 0).all()
    assert (torch.tensor(denormal) + 0.0 != 0).all()


# Porting


@pytest.mark.parametrize(
    ("there", "here", "options"),
    [
        (("keras", "sgd"), "SGD", {"momentum": 0.75}),
        (("keras", "sgd"), "SGD", {"momentum": 0.75, "nesterov": True}),
        (("optax", "sgd"), "SGD", {"momentum": 0.75, "nesterov": True}),
        (("keras", "adagrad"), "Adagrad", {}),
        (("optax", "adagrad"), "Adagrad", {}),
        (("optax", "rmsprop"), "RMSprop", {"eps_in_sqrt": False, "momentum": 0.75, "eps": 0.5}),
        (("optax", "adam"), "Adam", {"eps": 0.5}),
        (("optax", "adamw"), "AdamW", {"eps": 0.5, "weight_decay": 0.25}),
        (("keras", "adam"), "Adam", {}),
        (("keras", "adamw"), "AdamW", {"weight_decay": 0.25}),
    ],
)
def test_what_torch_optim_can_do_instead(there, here, options):
    """A row of the table names both, and they go the same way with the same options."""
    (table,) = tables("Porting a training")
    framework, family = there
    row = named(framework, family)
    theirs = family if framework == "optax" else row.name
    (told,) = [
        each["in `torch.optim`"]
        for each in table
        if re.search(rf"{framework}\b[^|]*`{theirs}`", each["there"], re.I)
        and each["in `torch.optim`"][:4] != "none"
    ]
    assert here in code(told)
    own = dict(eval_option(each) for each in code(told) if "=" in each)
    same = {name: value for name, value in options.items() if name != "eps_in_sqrt"}
    rates = {"decay": 0.875} if family == "rmsprop" else {}
    alpha = {"alpha": rates["decay"]} if rates else {}
    one = Real(row, learning_rate=0.1, **options | rates)
    other = Real(Row(family, "torch", {"": ""}), lr=0.1, **same | alpha | own)
    for grad in GRADS:
        one.step(grad)
        other.step(grad)
        equal(one.param, other.param)


# Reinforcement learning

SCRIPT = Path(__file__).parents[1] / "scripts" / "rmsprop_epsilon.py"
IMAGES = Path(__file__).parents[1] / "docs" / "images" / "dialects"


def recorded() -> dict[str, dict[str, dict[str, list]]]:
    return json.loads((IMAGES / "cartpole.json").read_text(encoding="utf-8"))


def test_the_figures_are_drawn_from_the_numbers():
    """If they are not: scripts/rmsprop_epsilon.py figures."""
    drawn = runpy.run_path(str(SCRIPT))["figures"](recorded())
    shown = re.findall(r"images/dialects/(\w+)\.en(\.narrow)?\.svg", DOCUMENT)
    assert len(shown) == 2 * len(drawn)
    for name, narrow in shown:
        file = IMAGES / f"{name}.en{narrow}.svg"
        assert file.read_text(encoding="utf-8") == drawn[name].svg("en", bool(narrow))


def test_the_numbers_of_the_trainings():
    (table,) = tables("RMSprop's epsilon in reinforcement learning")
    for eps, found in recorded().items():
        for name, each in found.items():
            late = np.array(each["lengths"])[:, -5:].mean(1)
            (row,) = [row for row in table if row[""] == name]
            shown = f"{late.mean():.0f} ({late.min():.0f} to {late.max():.0f})"
            assert row[f"ε = {float(eps):g}"] == shown
    text = section("RMSprop's epsilon in reinforcement learning")
    small = recorded()["1e-05"]
    roots = [root for each in ("torch", "Keras") for root in small[each]["roots"]]
    low, high = min(roots), max(roots)
    ratios = [np.sqrt(root**2 + 1e-5) / (root + 1e-5) for root in (low, high)]
    assert f"√s is {low} to {high}, above √ε = 0.0032" in text
    assert f"is {ratios[0]:.2f} to {ratios[1]:.2f} times Keras'" in text
    same = np.array(small["torch"]["lengths"]) - small["Optax, outside"]["lengths"]
    assert f"up to {abs(same).max():.0f} steps" in text
    large = recorded()["0.01"]
    roots = [root for each in ("torch", "Keras") for root in large[each]["roots"]]
    ratios = [np.sqrt(root**2 + 0.01) / (root + 0.01) for root in (max(roots), min(roots))]
    assert "torch's step {:.0f} to {:.0f} times as large".format(*ratios) in text


@pytest.mark.parametrize("eps", [1e-2, 1e-5, 1e-8])
@pytest.mark.parametrize("root", [1e-5, 1e-2])
def test_how_much_larger_a_step_is_in_torch(eps, root):
    """The figure of the ratio, by a step of each where s is the square of the gradient."""
    grad, zeros = np.full(2, root, np.float32), np.zeros(2, np.float32)
    theirs = Real(named("keras", "rmsprop"), zeros, rho=0.0, epsilon=eps)
    ours = Real(named("torch", "rmsprop"), zeros, lr=0.001, alpha=0.0, eps=eps)
    theirs.step(grad)
    ours.step(grad)
    ratio = np.sqrt(root**2 + eps) / (root + eps)
    np.testing.assert_allclose(ours.param / theirs.param, ratio, rtol=1e-5)
