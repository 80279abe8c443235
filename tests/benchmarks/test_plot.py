"""Every ratio a bar of the right length and colour, or a cell; every sweep a curve."""

import pytest
from matplotlib.colors import to_hex

from torchopt_ref.benchmarks import plot
from torchopt_ref.benchmarks.report import Result, markdown
from torchopt_ref.benchmarks.timing import Case, Contestant, Quartiles, Timing


def result(name, *entries, at=None):
    """A case of (name, seconds, ratio, options of the contestant)."""
    contestants = [Contestant(who, None, **options) for who, _, _, options in entries]
    timings = [
        Timing(Quartiles(s, 0.9 * s, 1.1 * s), Quartiles(r, 0.9 * r, 1.1 * r), entries[0][0])
        for _, s, r, _ in entries
    ]
    return Result(Case(name, contestants, at=at), timings)


def test_bars_reach_from_one_to_the_ratio_and_say_whether_they_held():
    entries = [
        ("torch", 2.0, 1.0, {}),
        ("held", 1.0, 0.5, {"bar": 0.6}),
        ("missed", 3.0, 1.5, {"bar": 1.2}),
        ("open", 4e-4, 2.0, {}),
    ]
    figure = plot.ratio_bars([result("one", *entries)], "title")
    ax = figure.axes[0]
    bars = [(bar.get_x(), bar.get_width(), to_hex(bar.get_facecolor())) for bar in ax.patches]
    assert bars == [(1, -0.5, plot.HELD), (1, 0.5, plot.MISSED), (1, 1.0, plot.OPEN)]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["one", "held : torch", "missed : torch", "open : torch"]
    (right,) = ax.child_axes
    values = [label.get_text() for label in right.get_yticklabels()]
    assert values == ["", "0.50   1 s", "1.50   3 s", "2.00   400 µs"]
    strokes = [list(line.get_xdata()) for line in ax.lines]
    assert [0.6, 0.6] in strokes
    assert [1.2, 1.2] in strokes
    assert any(x == pytest.approx([0.45, 0.55]) for x in strokes)


def test_a_sweep_is_a_curve_for_each_and_the_limit_of_the_bandwidth():
    points = [
        result(
            f"{at} elements",
            ("ours", 3e-9 * at, 1.0, {"bytes_moved": 28 * at}),
            ("add", 1e-9 * at, 1.0, {"bytes_moved": 12 * at, "yardstick": True}),
            at=at,
        )
        for at in (1000, 10000)
    ]
    ours, limit = plot.sweep_curves(points, "title", "elements").axes[0].lines
    assert list(ours.get_xdata()) == list(limit.get_xdata()) == [1000, 10000]
    assert list(ours.get_ydata()) == pytest.approx([3e-6, 3e-5])
    assert list(limit.get_ydata()) == pytest.approx([28 / 12 * 1e-6, 28 / 12 * 1e-5])
    assert (ours.get_label(), limit.get_label()) == ("ours", "bandwidth (add)")


def test_markdown_is_a_row_for_each_case_and_what_misses_its_bar_is_bold():
    results = [
        result("one", ("torch", 2e-3, 1.0, {}), ("ours", 1e-3, 0.5, {"bar": 0.55})),
        result(
            "two", ("other", 2.0, 1.0, {}), ("ours", 3.0, 1.5, {"bar": 1.0}), ("slow", 6.0, 3.0, {})
        ),
    ]
    assert markdown(results).splitlines() == [
        "| case | against | ours | slow |",
        "| --- | --- | --- | --- |",
        "| one | torch, 2 ms | 0.50 (bar 0.55) |  |",
        "| two | other, 2 s | **1.50** (bar 1.00) | 3.00 |",
    ]
