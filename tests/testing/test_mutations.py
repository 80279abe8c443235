"""Parity notices any changed sign, operation or constant in a rule, in what goes around it, and
in the scalars that it is given."""

import ast
import copy
import dataclasses
import functools
import inspect
import itertools
import textwrap

import pytest
import torch

from torchopt_ref import optim
from torchopt_ref.optim import sgd
from torchopt_ref.testing import check_parity, configurations
from torchopt_ref.testing.configurations import OPTIONS

SWAPPED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
}

USERS = {
    function: {
        optimizer
        for optimizer in OPTIONS
        for rule in getattr(optim, optimizer).conventions.values()
        if function in (rule.update, rule.scalars)
    }
    for optimizer in OPTIONS
    for rule in getattr(optim, optimizer).conventions.values()
    for function in (rule.update, rule.scalars)
    if function.__name__ != "<lambda>"
}
"""Each function of a rule, and the optimizers that use it."""


def mutants(function):
    """Copies of a function, each with one operation, sign or number of a formula changed."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for position, _ in enumerate(ast.walk(tree)):
        for change in (swap_operation, drop_sign, change_number):
            mutant = copy.deepcopy(tree)
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
        if isinstance(operand, ast.Constant):
            operand.value += 1
            return True
    return False


def survives(optimizer, replace):
    """Whether parity stays perfect in every configuration with ``replace(rule)`` for each rule."""
    original = getattr(optim, optimizer)
    for configuration in configurations([optimizer]):
        rule = replace(original.rule(configuration.convention))
        mutant = type("Mutant", (original,), {"conventions": {configuration.convention: rule}})
        factory = functools.partial(
            mutant, convention=configuration.convention, **configuration.options
        )
        try:
            report = check_parity(factory, configuration.reference(), steps=12, dtype="float64")
        except (ArithmeticError, ValueError):
            return False
        if report.first_divergent_step is not None:
            return False
    return True


@pytest.mark.parametrize("function", USERS, ids=lambda function: function.__qualname__)
def test_every_mutant_of_a_rule_is_caught(function):
    def everywhere(replace):
        return all(survives(optimizer, replace) for optimizer in USERS[function])

    def replaced(rule, mutant):
        parts = [part for part in ("update", "scalars") if getattr(rule, part) is function]
        return dataclasses.replace(rule, **dict.fromkeys(parts, mutant))

    assert everywhere(lambda rule: rule)
    survivors = [
        name
        for name, mutant in mutants(function)
        if everywhere(lambda rule, mutant=mutant: replaced(rule, mutant))
    ]
    assert survivors == []


def scales_gradients(rule):
    """Whether a gradient of a scaled loss moves the parameter as that of the loss does."""
    param, grad = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -1.0])
    scalars = {"lr": 0.5, "momentum": 0, "dampening": 0, "nesterov": False}
    plain, _ = rule(param, grad, {}, **scalars)
    scaled, _ = rule(param, 8 * grad, {}, grad_scale=8, **scalars)
    return torch.equal(plain, scaled)


@pytest.mark.parametrize("part", ["__call__", "all_scalars"])
def test_every_mutant_of_what_goes_around_a_rule_is_caught(part):
    sgd_rule = optim.SGD.conventions["torch"]
    assert scales_gradients(sgd_rule)
    survivors = []
    for name, mutant in mutants(getattr(optim.Rule, part)):
        changed = type("Changed", (optim.Rule,), {part: mutant})

        def replace(rule, changed=changed):
            return changed(**vars(rule))

        if scales_gradients(replace(sgd_rule)) and all(
            survives(optimizer, replace) for optimizer in ("SGD", "AdamW")
        ):
            survivors.append(name)
    assert survivors == []


def test_the_mutants_are_what_they_should_be():
    names = {name for name, _ in mutants(sgd.sgd)}
    assert {"param + lr * grad", "lr / grad", "2 - dampening", "1 + dampening"} <= names
