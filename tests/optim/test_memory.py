"""What machine code reads of tensors is what Python says of them."""

import itertools
import math
from array import array

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from torchopt_ref.optim.engines import memory
from torchopt_ref.optim.engines.views import extent

REAL = list(memory.REAL)
OTHERS = [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn]


@st.composite
def tensors(draw, shape=None, dtypes=(*REAL, *OTHERS)):
    """Any view of memory: permuted, sliced, with a storage offset, expanded."""
    if shape is None:
        shape = draw(st.lists(st.integers(0, 4), max_size=4))
    wide = [size + draw(st.sampled_from([0, 0, 0, 2])) for size in shape]
    order = draw(st.permutations(range(len(shape))))
    dtype = draw(st.sampled_from(dtypes))
    offset = draw(st.sampled_from([0, 0, 3]))
    memory_ = torch.zeros(offset + math.prod(wide), dtype=torch.uint8).to(dtype)
    made = memory_[offset:].view([wide[axis] for axis in order])
    made = made.permute([order.index(axis) for axis in range(len(shape))])
    for axis, size in enumerate(shape):
        step = draw(st.sampled_from([1, 1, 1, 2])) if wide[axis] >= 2 * size else 1
        made = made.narrow(axis, 0, size * step if wide[axis] >= size * step else size)
        made = made[(slice(None),) * axis + (slice(None, None, step),)]
        if made.shape[axis] == 1 and draw(st.booleans()):
            made = made.expand(
                [*made.shape[:axis], draw(st.integers(1, 3)), *made.shape[axis + 1 :]]
            )
    return made


@st.composite
def columns_of(draw):
    """Rows of tensors that are often, but not always, alike."""
    width, count = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rows = []
    for _ in range(count):
        first = draw(tensors())
        row = [first]
        for _ in range(width - 1):
            like = st.sampled_from(REAL).map(
                lambda dtype, t=first: torch.empty_like(t, dtype=dtype)
            )
            same_shape = tensors(shape=list(first.shape), dtypes=REAL)
            row.append(draw(st.one_of(like, like, like, same_shape, tensors())))
        rows.append(row)
    return [list(column) for column in zip(*rows, strict=True)]


def is_dense(tensor):
    """Whether its elements are some stretch of memory, each once."""
    if tensor.numel() == 0:
        return True
    strides = sorted(
        (stride, size)
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
        if size > 1
    )
    expected = 1
    for stride, size in strides:
        if stride != expected:
            return False
        expected *= size
    return True


def is_plain(row):
    first = row[0]
    wide = [axis for axis, size in enumerate(first.shape) if size > 1 and first.numel() > 0]
    return is_dense(first) and all(
        each.dtype in REAL
        and each.shape == first.shape
        and all(each.stride(axis) == first.stride(axis) for axis in wide)
        for each in row
    )


@given(columns_of())
def test_rows_are_what_python_says(columns):
    seen = memory.inspect(columns)
    rows = list(zip(*columns, strict=True))
    width = len(columns)
    starts, ends = seen.spans[: len(seen.spans) // 2], seen.spans[len(seen.spans) // 2 :]
    spans = []
    for index, row in enumerate(rows):
        words = seen.words[index * (1 + width) : (index + 1) * (1 + width)]
        if not is_plain(row):
            assert seen.kinds[index] == memory.UNFIT
            assert not any(words)
            spans += [(0, 0)] * width
            continue
        assert seen.kinds[index] != memory.UNFIT
        assert list(words) == [row[0].numel(), *(each.data_ptr() for each in row)]
        alone = seen.pick([index])
        assert alone.dtypes() == tuple(each.dtype for each in row)
        assert alone.device() == torch.device("cpu")
        spans += [extent(each) for each in row] if row[0].numel() else [(0, 0)] * width
    assert [*starts] == sorted(starts)
    assert sorted(zip(starts, ends, strict=True)) == sorted(spans)
    for (i, one), (j, other) in itertools.combinations(enumerate(rows), 2):
        if is_plain(one) and is_plain(other):
            alike = [each.dtype for each in one] == [each.dtype for each in other]
            assert (seen.kinds[i] == seen.kinds[j]) == alike


@given(columns_of(), st.data())
def test_picked_rows_are_those_of_the_picked_tensors(columns, data):
    which = data.draw(st.lists(st.integers(0, len(columns[0]) - 1), min_size=1, unique=True))
    picked = memory.inspect(columns).pick(which)
    alone = memory.inspect([[column[row] for row in which] for column in columns])
    assert (picked.words, picked.kinds) == (alone.words, alone.kinds)


@given(tensors(dtypes=REAL))
def test_an_extent_holds_every_element(tensor):
    if tensor.numel() == 0:
        return
    start, end = extent(tensor)
    offsets = [
        sum(i * stride for i, stride in zip(index, tensor.stride(), strict=True))
        for index in itertools.product(*map(range, tensor.shape))
    ]
    assert start == tensor.data_ptr() + min(offsets) * tensor.element_size()
    assert end == tensor.data_ptr() + (max(offsets) + 1) * tensor.element_size()


UNFIT = {
    "meta": lambda: torch.zeros(3, device="meta"),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "csr": lambda: torch.eye(3).to_sparse_csr(),
    "csc": lambda: torch.eye(3).to_sparse_csc(),
    "nested": lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    "mkldnn": lambda: torch.zeros(3).to_mkldnn(),
    "quantized": lambda: torch.quantize_per_tensor(torch.zeros(3), 1.0, 0, torch.qint8),
    "complex": lambda: torch.zeros(3, dtype=torch.complex64),
    "integers": lambda: torch.zeros(3, dtype=torch.int32),
    "float8": lambda: torch.zeros(3).to(torch.float8_e4m3fn),
    "expanded": lambda: torch.zeros(3).expand(2, 3),
    "overlapping": lambda: torch.zeros(4).as_strided((2, 2), (1, 1)),
    "one for all": lambda: torch.zeros(()).expand(5),
    "every second": lambda: torch.zeros(6)[::2],
}


@pytest.mark.filterwarnings(
    "ignore:.*(prototype|beta|deprecated)"
)  # what torch says of its tensors
@pytest.mark.parametrize("kind", UNFIT)
def test_what_is_no_plain_memory_is_unfit(kind):
    """As a parameter, and beside one of its own shape, as far as it has any."""
    good, bad = torch.zeros(3), UNFIT[kind]()
    seen = memory.inspect([[good, bad, good]])
    assert [each == memory.UNFIT for each in seen.kinds] == [False, True, False]
    likes = torch.zeros(() if kind == "nested" else bad.shape)
    for beside in (likes, torch.zeros(2), torch.zeros(2, 2)):
        assert memory.inspect([[good, beside], [good, bad]]).kinds[1] == memory.UNFIT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.zeros(3), torch.zeros(4)),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.zeros(4, 3), torch.zeros(2, 3)),
        (torch.zeros(3), torch.zeros(3, 1)),
        (torch.zeros(0), torch.zeros(0, device="meta")),
    ],
    ids=["longer", "transposed", "fewer rows", "another rank", "another device"],
)
def test_tensors_that_do_not_correspond_are_unfit(one, other):
    for row in ((one, other), (other, one)):
        assert memory.inspect([[each] for each in row]).kinds[0] == memory.UNFIT


def test_more_columns_than_a_kind_has_room_for_are_unfit():
    most = [[torch.zeros(2)] for _ in range(memory.MOST_COLUMNS + 1)]
    assert memory.inspect(most).kinds[0] == memory.UNFIT
    assert memory.inspect(most[1:]).dtypes() == (torch.float32,) * memory.MOST_COLUMNS


def test_parameters_and_tensors_that_require_gradients_are_memory_as_any():
    tensors = [nn.Parameter(torch.ones(3)), torch.ones(3, requires_grad=True) * 1, torch.ones(3)]
    seen = memory.inspect([[each] for each in tensors])
    assert list(seen.words) == [3, *(each.data_ptr() for each in tensors)]


spans = st.lists(
    st.tuples(st.integers(1, 60), st.integers(0, 12)).map(lambda s: (s[0], s[0] + s[1])),
    max_size=12,
)


@given(spans)
def test_overlap_is_found_as_by_looking_at_every_pair(pairs):
    # As in rows, what is empty is at 0, where nothing else can be.
    pairs = [(0, 0) if start == end else (start, end) for start, end in pairs]
    expected = any(max(a, c) < min(b, d) for (a, b), (c, d) in itertools.combinations(pairs, 2))
    words = array("q", [start for start, _ in pairs] + [end for _, end in pairs])
    assert memory.overlap(words) is expected


@given(st.lists(st.integers(1, 50), min_size=1, max_size=400), st.randoms(use_true_random=False))
def test_many_spans_in_any_order(sizes, random):
    """Neighbours do not overlap; the same with one that is one longer do."""
    ends = list(itertools.accumulate(sizes))
    pairs = [(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    random.shuffle(pairs)

    def words(pairs):
        return array("q", [start for start, _ in pairs] + [end for _, end in pairs])

    assert not memory.overlap(words(pairs))
    if len(pairs) > 1:
        first = pairs.index(min(pairs))
        pairs[first] = (pairs[first][0], pairs[first][1] + 1)
        assert memory.overlap(words(pairs))


def numbers(dtype):
    width = 32 if dtype == torch.float32 else 64
    return st.floats(width=width, allow_nan=False, allow_infinity=False)


@given(st.lists(st.sampled_from([torch.float32, torch.float64]).flatmap(
    lambda dtype: numbers(dtype).map(lambda value: torch.tensor(value, dtype=dtype))
), min_size=1, max_size=5))  # fmt: skip
def test_steps_are_read_and_counted_as_torch_does(steps):
    """Also where they are so large that one more is no more, and where they are not whole."""
    expected = [step + 1 for step in steps]
    handles, counted = memory.read_steps(steps)
    assert list(counted) == [step.item() for step in expected]
    memory.count_steps(handles)
    assert all(map(torch.equal, steps, expected))


@pytest.mark.parametrize(
    "step",
    [
        torch.tensor(3),
        torch.tensor(3.0, dtype=torch.bfloat16),
        torch.tensor([3.0, 3.0]),
        torch.empty(0),
        torch.empty((), device="meta"),
        torch.tensor(3.0).to_sparse(),
    ],
    ids=["integer", "bfloat16", "two", "none", "meta", "sparse"],
)
def test_steps_of_another_kind_are_not_read(step):
    assert memory.read_steps([torch.tensor(1.0), step]) is None


def test_one_element_of_any_shape_is_a_step():
    steps = [torch.full((1,), 3.0), torch.full((1, 1), 4.0), torch.arange(9.0)[5]]
    handles, counted = memory.read_steps(steps)
    memory.count_steps(handles)
    assert list(counted) == [step.item() for step in steps] == [4.0, 5.0, 6.0]


def test_a_torch_with_other_tensors_is_noticed(monkeypatch):
    """The reader looks at a tensor that it knows, and does not trust its code otherwise."""
    monkeypatch.setattr(
        memory, "dtype_of_code", lambda: {7: torch.float32, 6: torch.float64, 5: torch.float16}
    )
    memory.dtypes_of.cache_clear()
    with pytest.raises(RuntimeError, match="not laid out as expected"):
        memory.reader.__wrapped__()
    memory.dtypes_of.cache_clear()
