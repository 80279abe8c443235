"""Machine code from LLVM IR, by llvmlite: no compiler on the machine is needed."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from llvmlite import binding, ir

# llvmlite has no types. These names stand for its objects in signatures.
Module: TypeAlias = Any
Function: TypeAlias = Any
Builder: TypeAlias = Any
Type: TypeAlias = Any
Value: TypeAlias = Any

I64: Type = ir.IntType(64)
POINTER: Type = ir.PointerType()

LOCK = threading.RLock()
"""Held while LLVM is used, and during a fork. Else, if another thread compiles during the fork, the
child would find llvmlite's own lock taken by a thread that it does not have."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release
    )


def arithmetic(name: str) -> Any:
    def operator(self: Int, other: Int | int) -> Int:
        return Int(self.builder, getattr(self.builder, name)(self.value, raw(other)))

    return operator


def compared(how: str) -> Any:
    def operator(self: Int, other: Int | int) -> Int:
        truth = self.builder.icmp_signed(how, self.value, raw(other))
        return Int(self.builder, self.builder.zext(truth, I64))

    return operator


class Int:
    """A 64-bit integer in the generated code: a number, a truth value (0 or 1) or an address. If it
    is an address, ``[i]`` reads or writes the word that lies ``i`` words after it."""

    def __init__(self, builder: Builder, value: Value) -> None:
        self.builder: Builder = builder
        self.value: Value = value

    __eq__: Any = compared("==")
    __ne__: Any = compared("!=")
    __lt__: Any = compared("<")
    __le__: Any = compared("<=")
    __add__: Any = arithmetic("add")
    __sub__: Any = arithmetic("sub")
    __mul__: Any = arithmetic("mul")
    __and__: Any = arithmetic("and_")
    __or__: Any = arithmetic("or_")

    def place(self, index: Int | int, kind: Type = I64) -> Value:
        pointer = self.builder.inttoptr(self.value, POINTER)
        return self.builder.gep(pointer, [raw(index)], source_etype=kind)

    def __getitem__(self, index: Int | int) -> Int:
        return Int(self.builder, self.builder.load(self.place(index), typ=I64))

    def __setitem__(self, index: Int | int, value: Int | int) -> None:
        self.builder.store(raw(value), self.place(index))

    def if_else(self, one: Int | int, other: Int | int) -> Int:
        chosen = self.builder.select(self.truth(), raw(one), raw(other))
        return Int(self.builder, chosen)

    def truth(self) -> Value:
        return self.builder.icmp_signed("!=", self.value, I64(0))


def raw(value: Int | int) -> Value:
    return value.value if isinstance(value, Int) else I64(value)


class Code:
    """A function that is being generated. It takes 64-bit integers and returns one."""

    def __init__(self, module: Module, name: str, arguments: int) -> None:
        self.function: Function = ir.Function(module, ir.FunctionType(I64, [I64] * arguments), name)
        self.builder: Builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.arguments: list[Int] = [Int(self.builder, argument) for argument in self.function.args]

    def variable(self, value: Int | int = 0) -> Int:
        """A local variable: the address of a new word, which is set to ``value`` at this point."""
        with self.builder.goto_entry_block():
            address = Int(self.builder, self.builder.ptrtoint(self.builder.alloca(I64), I64))
        address[0] = value
        return address

    @contextmanager
    def loop(self, stop: Int | int) -> Iterator[Int]:
        """``for i in range(stop)``; yields ``i``."""
        index = self.variable()
        with self.repeat(lambda: index[0] < stop):
            yield index[0]
            index[0] = index[0] + 1

    @contextmanager
    def repeat(self, condition: Callable[[], Int]) -> Iterator[None]:
        """``while condition()``."""
        head, body, end = (self.function.append_basic_block() for _ in range(3))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        self.builder.cbranch(condition().truth(), body, end)
        self.builder.position_at_end(body)
        yield
        self.builder.branch(head)
        self.builder.position_at_end(end)

    def when(self, condition: Int) -> Any:
        return self.builder.if_then(condition.truth())


class Library:
    """The functions of a module, compiled for this machine. ``library.name(...)`` calls one.

    LLVM rounds each operation separately unless it is allowed to fuse them, which it is not here.
    With ``vectorize`` compiling takes longer, and loops over many elements are several times as
    fast. A call releases Python's global lock.
    """

    def __init__(self, module: Module, vectorize: bool) -> None:
        with LOCK:
            self._compile(module, vectorize)

    def _compile(self, module: Module, vectorize: bool) -> None:
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        machine = binding.Target.from_default_triple().create_target_machine(
            cpu=binding.get_host_cpu_name(),
            features=binding.get_host_cpu_features().flatten(),
            opt=3 if vectorize else 1,
            jit=True,
        )
        module.triple, module.data_layout = machine.triple, str(machine.target_data)
        parsed = binding.parse_assembly(str(module))
        if vectorize:
            tuning = binding.create_pipeline_tuning_options(speed_level=3)
            tuning.loop_vectorization = True
            passes = binding.create_pass_builder(machine, tuning)
            passes.getModulePassManager().run(parsed, passes)
        binding.check_jit_execution()
        # The machine code lives as long as its engine.
        self._engine = binding.create_mcjit_compiler(parsed, machine)
        self._engine.finalize_object()
        for function in module.functions:
            if not function.is_declaration:
                prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(function.args))
                place = self._engine.get_function_address(function.name)
                setattr(self, function.name, prototype(place))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)
