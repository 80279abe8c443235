"""The options of ``torchopt-ref check`` that an error's message calls for."""

import re

HINTS = {
    r"'closure'|(need|require)\w*\W+(an?\W+)?closure|closure\W+(is|must|was|has)|"
    r"'NoneType' object is not callable": (
        "its step wants a closure: --traits needs_closure (L-BFGS: needs_closure "
        "couples_parameters history)"
    ),
    r"\b2-?d\b|\b2 dim|two[- ]dim|\bmatri(x|ces)\b|values to unpack \(expected 2": (
        "it takes matrices only: --traits two_dimensional_only"
    ),
    r"\bdense grad|sparse grad\w* only|only sparse": (
        "it takes sparse gradients only: --traits sparse_only"
    ),
    r"param_names|named[ _]param|\bnames?\b.*\bparam|\bparam\w*.*\bnames?\b": (
        "it wants named parameters: name a function that takes parameters, names them and makes it"
    ),
    r"missing \d* ?required|required argument|must be (given|specified|provided)": (
        "give arguments with --kwargs; what is not JSON, by a function that takes parameters and "
        "makes it, in place of the class"
    ),
    r"\bcuda\b|\bgpu\b|triton|active drivers": (
        "the checks run on the CPU: choose the path for the CPU with --kwargs"
    ),
    r"does not require grad|create_graph|hessian": (
        "it differentiates the gradient again, which the checks cannot offer: they cannot try it"
    ),
}
"""A hint for each pattern that an error's message may match."""


def hint_for(message: str) -> str | None:
    """The first hint whose pattern the message matches."""
    for words, hint in HINTS.items():
        if re.search(words, message, re.IGNORECASE):
            return hint
    return None
