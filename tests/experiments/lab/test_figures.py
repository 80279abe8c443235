"""What every figure owes its reader, whatever the experiments found."""

import re
from collections import defaultdict
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest

from torchopt_ref.experiments import EXPERIMENTS, experiment
from torchopt_ref.experiments.lab.charts import (
    Bars,
    Histograms,
    Lines,
    PlottedCurve,
    Points,
    Valley,
)
from torchopt_ref.experiments.lab.panels import training_losses
from torchopt_ref.experiments.lab.results import Results
from torchopt_ref.experiments.lab.svg import COLUMN, Axis, Figure, text_width, wrapped
from torchopt_ref.experiments.lab.words import Words, number, percent

SVG = "{http://www.w3.org/2000/svg}"
NUMBER = re.compile(r"[-+]?\d*\.?\d+(e[-+]?\d+)?")
GEOMETRY = {"d", "x", "y", "width", "height", "cx", "cy", "r", "rx", "ry", "transform", "viewBox"}
VALUES = {
    "the least": lambda i: 5e-324 * (i % 3),
    "ordinary": lambda i: 2.3 * 0.98**i,
    "constant": lambda i: 0.5,
    "nan": lambda i: float("nan"),
    "in the end nan": lambda i: 0.9 if i < 3 else float("nan"),
    "infinite": lambda i: 1.0 if i < 2 else float("inf"),
    "zero": lambda i: 0.0,
    "huge": lambda i: 10.0 ** min(308, 50 * i),
    "huge of both signs": lambda i: (-1) ** i * 1.7e308,
    "tiny": lambda i: 5e-324 if i else 1.0,
    "negative": lambda i: -1.0 - i,
}
"""What a curve may be."""
NAMES = {
    *("sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw", "xavier", "sigmoid", "tanh"),
    *("relu", "batch", "normalization", "dropout", "epoch", "torch", "mnist", "ped", "anova"),
}
"""What has the same name in Chinese."""


def found(name, value, seeds=2, length=30):
    """Results of an experiment, with the same curve under every tag."""
    module = experiment(name)
    config = module.Config(seeds=seeds, sides="torch")

    def outcome(seed):
        # Only the first seed is out of the ordinary.
        drawn = value if seed == 0 else VALUES["ordinary"]
        curve = [[i + 1, drawn(i)] for i in range(length)]
        return {
            "curves": defaultdict(lambda: curve)
            | {f"{what}/mc_dropout": curve[:4] for what in ("accuracy", "nll", "ece")},
            "numbers": defaultdict(lambda: drawn(length - 1)),
            "paths": defaultdict(lambda: [(drawn(i), drawn(i)) for i in range(min(31, length))]),
            "histograms": {
                layer: {
                    "range": [0.0, 3.0],
                    "counts": [max(0, 90 - 30 * i - 4 * j) for j in range(30)],
                }
                for i, layer in enumerate("abcde")
            },
        }

    if name == "search":
        outcomes = {}
        for i in range(24):
            validation = defaultdict(lambda: [value(j) for j in range(length)])
            outcomes[f"trial-{i:03d}", 0] = {
                "state": "complete",
                "round": 1 + i // 12,
                "params": {"lr": 10.0 ** (-6 + i % 5), "weight_decay": 10.0 ** (-8 + i % 5)},
                "torch": {
                    "curves": validation,
                    "numbers": {"validation_accuracy": (i % 9) / 10},
                },
            }
    else:
        outcomes = {
            (unit.variant, unit.seed): {"torch": outcome(unit.seed)}
            for unit in module.units(config)
        }
    if name == "activations":
        for each in outcomes.values():
            each["torch"]["curves"] = defaultdict(lambda: [value(i) for i in range(5)])
    return module.figures(Results(outcomes, ["torch"]), config)


@pytest.fixture(scope="module")
def figures():
    """Those of an ordinary run, by experiment and name."""
    return {
        (name, key): figure
        for name in EXPERIMENTS
        for key, figure in found(name, VALUES["ordinary"], seeds=3, length=400).items()
    }


@pytest.fixture(scope="module")
def drawn(figures):
    """The same as SVG, in each language."""
    return {
        (*key, lang): figure.svg(lang) for key, figure in figures.items() for lang in ("en", "zh")
    }


@pytest.fixture(scope="module")
def panels(figures):
    """Each panel in each language: the figure, the language, the panel and its texts."""
    return [
        (key, lang, panel, list(ElementTree.fromstring(f"<g>{panel.draw(lang)}</g>").iter("text")))
        for key, figure in figures.items()
        for lang in ("en", "zh")
        for panel in figure.panels
    ]


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def spoken(svg):
    """Everything that is read, by pointing too."""
    root = ElementTree.fromstring(svg)
    return [e.text for kind in ("text", "title") for e in root.iter(SVG + kind)]


def places(svg):
    """All that says where something stands."""
    for element in ElementTree.fromstring(svg).iter():
        for key in GEOMETRY & set(element.keys()):
            yield element.get(key)


def all_are_numbers(svg):
    for place in places(svg):
        rest = NUMBER.sub("", place).replace("translate", "").replace("scale", "")
        assert not re.search("nan|inf", rest), place
        assert all(abs(float(found[0])) < 1e4 for found in NUMBER.finditer(place)), place


@pytest.mark.parametrize("kind", ["nan", "infinite"])
@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.filterwarnings("error")
def test_an_experiment_that_diverged_has_its_figures(name, kind):
    for figure in found(name, VALUES[kind], length=6).values():
        all_are_numbers(figure.svg("en"))


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.filterwarnings("error")
def test_whatever_a_curve_is_every_place_on_paper_is_a_number(kind, log):
    values = [VALUES[kind](i) for i in range(30)]
    words = Words("it", "它")
    x, y = Axis(words), Axis(words, log=log, write=percent)
    points = Points(words, y, y, {words: (np.array(values), np.array(values))})
    bars = Bars(words, [words] * 30, x, x, {words: values})
    valley = Valley(words, np.array([values, values]).T, "#123456")
    ordinary = [VALUES["ordinary"](i) for i in range(30)]
    for panel in (
        lines([values], log=log),
        lines([values, ordinary], log=log),
        points,
        bars,
        valley,
    ):
        all_are_numbers(Figure(words, [panel]).svg("zh"))


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.filterwarnings("error")
def test_one_seed_and_a_point_or_two_are_a_figure(name, length):
    for figure in found(
        name, VALUES["ordinary"], seeds=1, length=max(length, 4 * (name == "dropout"))
    ).values():
        svg = figure.svg("en")
        assert "bands" not in " ".join(spoken(svg))
        assert "smoothed" not in " ".join(spoken(svg))
        assert re.search(r"<(circle|path|rect)[^>]*#", svg), "nothing is drawn in a colour"


def test_every_axis_has_its_name_in_both_languages(panels):
    for _, lang, panel, shown in panels:
        names = ["x", "y"]
        if hasattr(panel, "x"):
            names = [getattr(axis.name, lang) for axis in (panel.x, panel.y)]
        assert all(names)
        assert set(names) <= {element.text for element in shown}


def test_a_figure_is_read_in_its_language_and_has_no_tags(figures, drawn):
    for (*key, lang), svg in drawn.items():
        title = figures[tuple(key)].title
        assert title._asdict()[lang] in texts(svg)
        assert title.en not in svg or lang == "en"
        said = spoken(svg)
        assert bool(re.search(r"[\u4e00-\u9fff]", "".join(said))) == (lang == "zh")
        if lang == "zh":
            english = set(re.findall(r"[a-z]{3,}", " ".join(texts(svg)).lower()))
            assert english <= NAMES, english - NAMES
        for each in said:
            assert not re.search(r"[a-z0-9]/[A-Za-z]|_|std=|-L2|\d-layer|None", each), each


def test_nothing_is_printed_over_another_text_or_beyond_the_panel(panels):
    for key, _, panel, shown in panels:
        boxes = []
        for element in shown:
            x, y = float(element.get("x")), float(element.get("y"))
            width = 0.92 * text_width(element.text)  # which is that of a wide font
            x -= {None: 0, "middle": 0.5, "end": 1}[element.get("text-anchor")] * width
            assert -2 <= x <= panel.size[0] + 2 - width, (key, element.text)
            assert y <= panel.size[1]
            boxes.append((x, y - 9, x + width, y, element.text))
        for a, b in combinations(boxes, 2):
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, (key, a, b)


def test_a_page_may_hold_all_figures_and_github_each(drawn):
    for key, svg in drawn.items():
        assert " id=" not in svg, "ids of two figures on a page would clash"
        assert len(svg.encode()) < 150_000, key
        assert "http" not in svg.replace('xmlns="http://www.w3.org/2000/svg"', "")
        (style,) = ElementTree.fromstring(svg).iter(f"{SVG}style")
        for selectors in re.findall(r"([^{}]+)\{", style.text):
            assert all(re.match(r"\.tor-|@", each) for each in selectors.split(",")), selectors


def test_text_has_the_colour_of_the_page_or_one_for_each_scheme(drawn):
    svg = drawn["overfit", "accuracy", "en"]
    assert not re.search(r"<text[^>]*(fill|style)=", svg)
    (style,) = ElementTree.fromstring(svg).iter(f"{SVG}style")
    assert ".tor-figure text{fill:currentColor}" in style.text
    colors = re.findall(r"[^{}]*\{[^{}]*(?<!-)color:[^{}]*\}", style.text)
    assert len(colors) == 2
    assert all(rule.startswith(".tor-figure:root{") and "background:" in rule for rule in colors)
    assert "@media (prefers-color-scheme:dark){" + colors[1] in style.text


def test_a_figure_alone_is_as_wide_as_it_is_asked_for(figures, drawn):
    for key in (("overfit", "accuracy"), ("optimizers", "valley"), ("search", "best_trials")):
        wide = ElementTree.fromstring(drawn[(*key, "en")])
        below = figures[key].svg("en", narrow=True)
        narrow = ElementTree.fromstring(below)
        assert (wide.get("width"), narrow.get("width")) == (str(2 * COLUMN), str(COLUMN))
        assert narrow.get("viewBox") == f"0 0 {COLUMN} {narrow.get('height')}"
        assert set(texts(below)) <= set(texts(drawn[(*key, "en")]))


def lines(values, **axis):
    curve = PlottedCurve(
        Words("it", "它"), range(1, 1 + len(values[0])), np.array(values), "#123456"
    )
    return Lines(Words("t", "题"), Axis(Words("x", "x")), Axis(Words("y", "y"), **axis), [curve])


def paths(panel):
    drawn = re.findall(
        r'd="(M[^"]*)" fill="none" stroke="#123456" stroke-width="2"', panel.draw("en")
    )
    return [len(path.split("L")) for path in drawn]


def test_a_line_is_broken_where_it_has_no_values_and_its_name_says_so():
    nan = float("nan")
    panel = lines([[1.0, 2.0, nan, 4.0, 5.0, 6.0]])
    assert paths(panel) == [2, 3]
    assert ">it<" in panel.draw("en")
    assert ">it (nan)<" in lines([[1.0, 2.0, nan]]).draw("en")
    assert ">it (1/2 inf)<" in lines([[1.0, 2.0], [1.0, float("inf")]]).draw("en")
    assert ">it (0)<" in lines([[1.0, 0.0]], log=True).draw("en")
    assert ">它 (nan)<" in lines([[nan, nan]]).draw("zh")


def placed(svg, *wanted):
    """Where these texts stand."""
    root = ElementTree.fromstring(f"<g>{svg}</g>")
    return [(float(e.get("x")), float(e.get("y"))) for e in root.iter("text") if e.text in wanted]


def test_the_names_of_lines_that_end_together_stand_below_each_other_beside_the_plot():
    words = Words("it", "它")
    for ends in ([9.0, 9.0, 9.0], [0.0, 0.0, 0.0], [9.0, 5.0, 0.0], [5.0, 5.0, 9.0]):
        curves = [PlottedCurve(words, [1, 2], np.array([[5.0, end]]), "#123456") for end in ends]
        panel = Lines(words, Axis(words), Axis(words, limits=(0.0, 9.0)), curves)
        heights = sorted(y for x, y in placed(panel.draw("en"), "it") if x > 300)
        assert len(heights) == 3
        assert np.diff(heights).min() >= 17
        assert heights[0] > 48
        assert heights[-1] < panel.size[1] - 30


def test_ticks_whose_labels_would_touch_have_some_left_out():
    words = Words("t", "t")
    panel = lines([[1.0, 2.0]])
    crowded = Lines(words, Axis(words, ticks=range(100, 200)), panel.y, panel.curves)
    crowded = replace(crowded, x=crowded.x._replace(limits=(99.0, 200.0)))
    xs = [x for x, _ in placed(crowded.draw("en"), *map(str, range(100, 200)))]
    assert 3 < len(xs) < 12
    assert np.diff(xs).min() > text_width("100")


def test_an_axis_of_iterations_has_no_halves():
    panel = lines([[0.0, 4.0, 9.0]])
    assert placed(panel.draw("en"), "1.5")
    assert not placed(replace(panel, x=panel.x._replace(whole=True)).draw("en"), "1.5")


def test_a_band_goes_along_the_largest_values_and_back_along_the_smallest():
    drawn = lines([[1.0, 2.0, 4.0], [3.0, 4.0, 5.0]]).draw("en")
    (band,) = re.findall(r'd="M([^"]*)Z"', drawn)
    points = np.array([point.split(",") for point in band.split("L")], dtype=float)
    there, back = points[:3], points[:2:-1]
    assert (there[:, 0] == back[:, 0]).all()
    assert (there[:, 1] < back[:, 1]).all(), "up is less in SVG"


def test_pointing_at_a_line_tells_its_mean_and_range():
    shown = lines([[1.0, 2.0], [3.0, 4.0]]).draw("en")
    assert "x: 1\nit: 2 (1 … 3)</title>" in shown
    assert "x: 2\nit: 3 (2 … 4)</title>" in shown


def test_a_bar_far_above_the_others_is_cut_and_marked():
    def histogram(*counts):
        return {"range": [0.0, 3.0], "counts": counts}

    x, y = (Axis(Words(name, name), write=lambda share: f"{share:.0%}") for name in "xy")
    layers = [histogram(90, 5, 5), histogram(40, 30, 30), histogram(7, 0, 0), histogram(0, 0, 0)]
    drawn = Histograms(Words("t", "t"), x, y, layers, "#123456").draw("en")
    assert re.findall(r">([^<]*%)</text>", drawn) == ["↑ 90%", "40%", "100%", "0%"]
    assert "0 … 1: 90%</title>" in drawn


def test_the_smoothing_is_named_where_there_is_one(drawn):
    said = " ".join(texts(drawn["optimizers", "training_loss", "en"]))
    assert "each point is the mean of 20 iterations" in said
    assert "means over 3 seeds" in said
    short = found("optimizers", VALUES["ordinary"], length=30)["training_loss"].svg("en")
    assert "smoothed" not in " ".join(spoken(short))


@pytest.mark.parametrize(("length", "window"), [(199, 1), (200, 20), (1000, 20)])
def test_a_smoothed_loss_stands_where_its_last_iteration_does(length, window):
    words = Words("it", "它")
    (curve,) = training_losses(words, {words: np.arange(1.0, length + 1)[None]}).curves
    assert [curve.x[0], curve.x[-1]] == [window, length]
    assert curve.values == pytest.approx(np.array([curve.x]) - (window - 1) / 2)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        *((0, "0"), (0.05, "0.05"), (0.30000000000000004, "0.3"), (12_000, "12,000")),
        *((3e-7, "3·10⁻⁷"), (1e10, "10¹⁰"), (-0.5, "\N{MINUS SIGN}0.5"), (110.0, "110")),
        *((float("nan"), "nan"), (float("-inf"), "\N{MINUS SIGN}inf"), (99.96, "99.96")),
    ],
)
def test_numbers_are_written_as_people_write_them(value, written):
    assert number(value) == written


def test_a_text_is_broken_between_words_and_chinese_characters():
    assert list(wrapped("one two three", text_width("one two "))) == ["one two", "three"]
    assert list(wrapped("曲线是平均值，色带", 6.5 * 13)) == ["曲线是平均", "值，色带"]


def test_a_note_may_be_missing():
    figure = Figure(Words("title", "题"), [lines([[1.0, 2.0]])])
    assert texts(figure.svg("en"))[0] == "title"
