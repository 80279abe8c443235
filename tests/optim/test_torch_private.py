"""Each thing that torch does not promise to keep: these fail when it goes or changes."""

import ctypes

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.modules.module import register_module_forward_hook
from torch.optim import optimizer as optimizer_module
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from torchopt_ref import optim
from torchopt_ref.optim import torch_private
from torchopt_ref.optim.torch_private import in_backward, is_watched

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def test_nothing_watches_by_default():
    assert not is_watched()
    with torch.no_grad(), torch.inference_mode():
        assert not is_watched()
    with torch.autocast("cpu"), torch.device("cpu"):
        assert not is_watched()


@pytest.mark.parametrize(
    "transform",
    [torch.vmap, torch.func.grad, torch.func.jacrev, torch.func.jacfwd, torch.func.functionalize],
    ids=lambda transform: transform.__name__,
)
def test_transforms_of_torch_func_watch(transform):
    seen = []

    def look(x):
        seen.append(is_watched())
        return x.sum()

    transform(look)(torch.ones(3))
    assert seen
    assert all(seen)
    assert not is_watched()


@pytest.mark.parametrize("reentrant", [False, True])
def test_the_second_run_of_activation_checkpointing_is_within_the_backward_pass(reentrant):
    seen = []

    def square(x):
        seen.append(in_backward())
        return x * x

    x = torch.ones(2, requires_grad=True)
    checkpoint(square, x, use_reentrant=reentrant).sum().backward()
    assert seen == [False, True]
    assert not in_backward()


class Recorder(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [Recorder, FakeTensorMode], ids=lambda mode: mode.__name__)
def test_dispatch_modes_watch(mode):
    with mode():
        assert is_watched()
    assert not is_watched()


def test_a_trace_watches():
    seen = []

    def look(x):
        seen.append(is_watched())
        return x + 1

    make_fx(look)(torch.ones(3))
    assert seen == [True]


def test_a_torch_function_mode_does_not_watch():
    """It sees calls of functions, and there is none: as for torch's own fused step."""

    class Mode(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    with Mode():
        assert not is_watched()


def asked(name, tensor, kind):
    """What the C interface answers about a tensor, called as the machine code calls it."""
    function = getattr(torch_private.c_interface(), torch_private.function(f"get_{name}")[0])
    handle = ctypes.c_void_p(id(tensor) + torch_private.offset_of_handle())
    answer = kind()
    assert function(handle, ctypes.byref(answer)) == 0
    return answer.value


VIEWS = [
    torch.zeros(3, 5),
    torch.zeros(3, 5).t(),
    torch.zeros(4, 6)[1:, 2::2],
    torch.zeros(()),
    torch.zeros(0, 2),
    torch.zeros(1, 3).expand(4, 3),
    nn.Parameter(torch.zeros(7)),
]


@pytest.mark.parametrize("tensor", VIEWS, ids=lambda each: f"{tuple(each.shape)}{each.stride()}")
def test_the_c_interface_says_of_a_tensor_what_python_says(tensor):
    assert asked("dim", tensor, ctypes.c_int64) == tensor.dim()
    assert asked("numel", tensor, ctypes.c_int64) == tensor.numel()
    assert (asked("data_ptr", tensor, ctypes.c_void_p) or 0) == tensor.data_ptr()
    for name, expected in (("sizes", tensor.shape), ("strides", tensor.stride())):
        place = asked(name, tensor, ctypes.c_void_p)
        if tensor.dim():
            assert list((ctypes.c_int64 * tensor.dim()).from_address(place)) == list(expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes_have_codes(dtype):
    name = str(dtype).removeprefix("torch.")
    code = torch_private.constant(f"dtype_{name}")
    assert asked("dtype", torch.zeros(2, dtype=dtype), ctypes.c_int32) == code
    assert 0 <= code < 64  # so many find room in a kind
    others = [each for each in DTYPES if each != dtype]
    for other in (*others, torch.int32, torch.complex64):
        assert asked("dtype", torch.zeros(2, dtype=other), ctypes.c_int32) != code


def test_layouts_and_devices_have_codes():
    strided = torch_private.constant("layout_strided")
    assert asked("layout", torch.zeros(2), ctypes.c_int32) == strided
    assert asked("layout", torch.eye(2).to_sparse(), ctypes.c_int32) != strided
    assert asked("device_type", torch.zeros(2), ctypes.c_int32) == 0
    assert asked("device_type", torch.zeros(2, device="meta"), ctypes.c_int32) not in (0, 1)
    assert asked("device_index", torch.zeros(2), ctypes.c_int32) in (-1, 0)


def test_a_tensor_holds_the_address_of_its_cpp_object():
    param = nn.Parameter(torch.zeros(3))
    tensors = [
        *VIEWS,
        param,
        param.detach(),
        torch.zeros(2, device="meta"),
        torch.eye(2).to_sparse(),
    ]
    param.data = torch.zeros(50)
    param.grad = torch.zeros(50)
    for tensor in (*tensors, param.grad):
        word = ctypes.c_int64.from_address(id(tensor) + torch_private.offset_of_handle())
        assert word.value == tensor._cdata


def test_the_library_is_that_of_the_running_torch(monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(OSError, match="no torch_cpu library"):
        torch_private.c_interface.__wrapped__()


def test_trees_are_taken_apart_and_put_together():
    tree = {"a": [1, (2, 3)], "b": 4}
    leaves, structure = torch_private.tree_flatten(tree)
    assert leaves == [1, 2, 3, 4]
    assert torch_private.tree_unflatten([5, 6, 7, 8], structure) == {"a": [5, (6, 7)], "b": 8}
    assert structure.flatten_up_to({"a": [[8], (9, 0)], "b": {}}) == [[8], 9, 0, {}]
    assert torch_private.tree_map(str, {"a": [1], "b": 2}) == {"a": ["1"], "b": "2"}


def test_what_is_constant_for_the_compiler_is_marked_as_it_marks_it():
    def one():
        return None

    def other():
        return None

    torch_private.constant_for_compiler(one)
    torch.compiler.assume_constant_result(other)
    assert vars(one) == vars(other) != {}


@pytest.mark.parametrize("kind", ["pre", "post"])
@pytest.mark.parametrize("everywhere", [False, True])
def test_a_step_is_watched_by_hooks(kind, everywhere):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))])
    register = (
        getattr(optimizer_module, f"register_optimizer_step_{kind}_hook")
        if everywhere
        else getattr(optimizer, f"register_step_{kind}_hook")
    )
    assert not torch_private.is_step_watched(optimizer)
    hook = register(lambda *_: None)
    assert torch_private.is_step_watched(optimizer)
    hook.remove()
    assert not torch_private.is_step_watched(optimizer)


def test_a_profiler_is_told_of_steps():
    param = nn.Parameter(torch.zeros(1))
    param.grad = torch.ones(1)
    optimizer = optim.Adam([param])
    optimizer.step()
    with torch.profiler.profile() as seen:
        assert torch_private.is_step_watched(optimizer)
        optimizer.step()
    assert "Optimizer.step#Adam.step" in {event.key for event in seen.key_averages()}
    with torch.autograd.profiler.profile() as seen:
        optimizer.step()
    assert "Optimizer.step#Adam.step" in {event.key for event in seen.key_averages()}
    assert not torch_private.is_step_watched(optimizer)


def test_hooks_with_keyword_arguments_are_marked_where_we_look():
    handle = register_module_forward_hook(lambda *_: None, with_kwargs=True)
    assert torch_private.global_hooks_with_kwargs.pop(handle.id)
    handle.remove()


def test_torchs_threads_make_calls_that_cover_a_range():
    parallel_for, seen = torch_private.parallel_for(), []
    if parallel_for is None:
        assert tuple(map(int, torch.__version__.split(".")[:2])) < (2, 10)
        return
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    call = kind(lambda begin, end, context: seen.append((begin, end, context)))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert parallel_for(0, 2, 1, call, 123) == 0
    finally:
        torch.set_num_threads(before)
    assert sorted(index for begin, end, _ in seen for index in range(begin, end)) == [0, 1]
    assert {context for _, _, context in seen} == {123}
