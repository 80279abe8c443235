"""Parity notices any changed sign, operation or constant in a rule, in what goes around it, and
in the scalars that it is given."""

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap

import pytest
import torch

from torchopt_ref import optim
from torchopt_ref.optim import keras, optax, sgd
from torchopt_ref.optim.rule import unscaled
from torchopt_ref.sides import KNOWN, configurations
from torchopt_ref.testing import check_parity
from torchopt_ref.testing.parity.workload import parameters, standard_gradients

SWAPPED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
}

PARTS = ("update", "scalars", "rounded_scalars")


def functions(known):
    """Those that a rule is made of."""
    return [found for part in PARTS if (found := getattr(known.ours.rule, part)) is not None]


USERS = {
    function: {each.name for each in KNOWN if function in functions(each)}
    for known in KNOWN
    for function in functions(known)
}
"""Each function of a rule, and the optimizers that use it."""


def mutants(function):
    """Copies of a function, each with one operation, sign or number of a formula changed."""
    source = textwrap.dedent(inspect.getsource(function))
    for position, _ in enumerate(ast.walk(ast.parse(source))):
        for change in (swap_operation, drop_sign, change_number):
            mutant = ast.parse(source)
            node = next(itertools.islice(ast.walk(mutant), position, None))
            if change(node):
                namespace = dict(inspect.getmodule(function).__dict__)
                exec(compile(ast.fix_missing_locations(mutant), "<mutant>", "exec"), namespace)
                yield ast.unparse(node), namespace[function.__name__]


def swap_operation(node):
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPPED:
        node.op = SWAPPED[type(node.op)]()
        return True
    return False


def drop_sign(node):
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node.op = ast.UAdd()
        return True
    return False


def change_number(node):
    operands = (node.left, node.right) if isinstance(node, ast.BinOp) else ()
    for operand in operands:
        if isinstance(operand, ast.Constant) and isinstance(operand.value, (int, float)):
            operand.value += 1
            return True
    return False


def of_one_tensor(arrays):
    return {"matrix": arrays["matrix"]}


def survives(optimizer, replace, dtype="float64"):
    """Whether parity stays perfect in every configuration with ``replace(rule)`` for each rule.

    By the eager engine: a kernel would be compiled for every mutant.
    """
    params, gradients = of_one_tensor(parameters(dtype)), standard_gradients(dtype, 4)
    for configuration in configurations([optimizer]):
        original = configuration.known.ours
        mutant = type("Mutant", (original,), {"rule": replace(original.rule)})
        factory = functools.partial(mutant, **configuration.options, foreach=False)
        try:
            report = check_parity(
                factory,
                configuration.reference(),
                params=params,
                gradients=map(of_one_tensor, gradients),
            )
        except (ArithmeticError, ValueError):
            return False
        if report.first_divergent_step is not None:
            return False
    return True


@pytest.mark.parametrize(
    "function", USERS, ids=lambda function: f"{function.__module__}.{function.__name__}"
)
def test_every_mutant_of_a_rule_is_caught(function):
    def everywhere(replace):
        return all(survives(optimizer, replace) for optimizer in USERS[function])

    def replaced(rule, mutant):
        parts = [part for part in PARTS if getattr(rule, part) is function]
        return dataclasses.replace(rule, **dict.fromkeys(parts, mutant))

    assert everywhere(lambda rule: rule)
    survivors = [
        name
        for name, mutant in mutants(function)
        if everywhere(lambda rule, mutant=mutant: replaced(rule, mutant))
    ]
    assert survivors == []


@pytest.mark.parametrize(
    ("function", "user"), [(keras.decayed, "keras.AdamW"), (optax.correction, "optax.Adam")]
)
def test_every_mutant_of_what_rules_share_is_caught(function, user, monkeypatch):
    survivors = []
    for name, mutant in mutants(function):
        monkeypatch.setattr(inspect.getmodule(function), function.__name__, mutant)
        # Of a rule that is new a formula is made anew. Optax corrects in its own way in float32.
        if all(survives(user, dataclasses.replace, dtype) for dtype in ("float64", "float32")):
            survivors.append(name)
    assert survivors == []


@pytest.mark.parametrize("part", ["__call__", "all_scalars"])
def test_every_mutant_of_what_goes_around_a_rule_is_caught(part):
    survivors = []
    for name, mutant in mutants(getattr(optim.Rule, part)):
        changed = type("Changed", (optim.Rule,), {part: mutant})

        def replace(rule, changed=changed):
            return changed(**vars(rule))

        if all(survives(optimizer, replace) for optimizer in ("SGD", "AdamW")):
            survivors.append(name)
    assert survivors == []


def test_every_mutant_of_the_unscaling_is_caught():
    """A gradient of a scaled loss becomes that of the loss."""
    grad = torch.tensor([3.0, -1.0])

    def correct(function):
        found, scalars = function(8 * grad, {"lr": 0.5, "grad_scale": 8})
        return torch.equal(found, grad) and scalars == {"lr": 0.5}

    assert correct(unscaled)
    assert [name for name, _ in mutants(unscaled)] == ["grad * scale"]
    assert [name for name, mutant in mutants(unscaled) if correct(mutant)] == []


def test_the_mutants_are_what_they_should_be():
    names = {name for name, _ in mutants(sgd.sgd)}
    assert {"param + lr * grad", "lr / grad", "2 - dampening", "1 + dampening"} <= names
