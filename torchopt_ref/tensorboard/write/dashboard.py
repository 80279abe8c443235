"""TensorBoard's custom dashboard: the verdict, then the charts a person looks at first.

How TensorBoard shows it, which is not documented:

- Only the latest layout of a run is used. The layouts of several runs are merged, in the order of
  the runs' names: categories of the same title become one, in which equal charts are shown once. So
  the category of the verdict has the same title in all runs, and its chart names the run.
- A category that appears while the page is open is collapsed: another reason for a fixed title. A
  chart that is removed from a category stays until the page is loaded again, unless it is the first
  one.
- All curves of a run have the same colour, so each chart here has few of them. A margin chart fills
  the area between two of its curves, which must have the same steps.
- In a category the margin charts are shown last, and in reverse order (see ``as_shown``).
- The range of an axis ignores the largest and smallest 5 % of the points, unless a box is
  unchecked.
- A parenthesis in a tag is taken for the beginning of the run's name, and breaks the chart.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.custom_scalar import metadata
from tensorboard.plugins.custom_scalar.layout_pb2 import (
    Category,
    Chart,
    Layout,
    MarginChartContent,
    MultilineChartContent,
)

from ..read.diagnosis import NOTHING
from ..read.history import NOT_FINITE
from ..read.rules import Finding
from .over_layers import DECADES, GRADIENTS, THUMB, UPDATES

Series: TypeAlias = MarginChartContent.Series

SPLIT = "train|training|val|valid|validation|eval|evaluation|dev|test"
"""Words that tell apart curves of the same subject, which belong in one chart."""
ANY = "[^(]*"
"""The rest of a tag; a tag with a parenthesis cannot be in a chart."""
LEARNING = 12
"""At most this many charts show what ``log`` is given; further curves are found under Time
Series."""
SCALAR = TensorShapeProto()


def layout(
    run: str,
    optimizers: Sequence[str],
    tags: Collection[str],
    given: Iterable[str],
    findings: Sequence[Finding],
    unjudged: Sequence[str],
) -> Summary.Value:
    """The dashboard of a run that has curves with these ``tags``, of which ``log`` was ``given``
    some. ``optimizers`` are the names of its optimizers; that of a single one is empty.

    Charts without a curve among the ``tags`` are omitted. Each layer's own curves stand under Time
    Series.
    """
    titles = dict.fromkeys(["loss", "accuracy", *map(subject, given)])
    learning = [together(title) for title in titles if "(" not in title][:LEARNING]
    updates = [updates_over_layers(name) for name in optimizers]
    gradients = [gradients_over_layers(name) for name in optimizers]
    first = proof(findings, [*learning, *updates, *gradients], tags)
    first.title = f"{run}: {verdict(findings, unjudged)} Shown: {first.title}."
    charts = {
        "The verdict": [first],
        "Is it learning?": [*learning, below("learning rate"), lines(NOT_FINITE, NOT_FINITE)],
        "Are the steps of a good size?": [
            *updates,
            whole("effective step", optimizers),
            whole("weight norm", optimizers),
        ],
        "Do gradients arrive?": [*gradients, over_layers("activation gradient std")],
        **of_every_run(),
    }
    shown = {
        title: as_shown([chart for chart in each if has_curve(chart, tags)])
        for title, each in charts.items()
    }
    categories = [Category(title=title, chart=each) for title, each in shown.items() if each]
    plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME)
    content = Layout(category=categories).SerializeToString()
    return Summary.Value(
        tag=metadata.CONFIG_SUMMARY_TAG,
        metadata=SummaryMetadata(plugin_data=plugin),
        tensor=TensorProto(dtype="DT_STRING", string_val=[content], tensor_shape=SCALAR),
    )


def of_every_run() -> dict[str, list[Chart]]:
    """The charts that are the same whatever is trained."""
    return {
        "Do steps agree?": [
            lines("gradient cosine between steps", rf"gradient cosine/\[all{ANY}"),
            lines("gradient noise scale (samples)", rf"gradient noise scale/\[all{ANY}"),
        ],
        "Are the layers alive?": [
            over_layers("activation std"),
            over_layers("dead units", "dead units (fraction), over layers"),
            over_layers("saturated", "saturated (fraction), over layers"),
            over_layers("batch norm mean shift"),
            over_layers("batch norm variance ratio"),
            below("dropout keep rate"),
        ],
        "Are the data sound?": [
            lines("largest share of one class", f"classes/largest share{ANY}"),
            lines("model input", "model input/(mean|std|std between samples)"),
            lines("model output", "model output/(largest|smallest)"),
        ],
        "Is it fast?": [
            below("step time", "step time (ms)"),
            below("speed", "samples per second"),
            below("memory", "memory (MiB)"),
        ],
        "Is it computed as meant?": [
            lines("gradient carried over from the step before", "gradient carried over"),
            lines("parity drift from NumPy (ULP)", f"parity drift/NumPy{ANY}"),
            lines("parity drift from float64 (ULP)", f"parity drift/float64{ANY}"),
        ],
    }


def verdict(findings: Sequence[Finding], unjudged: Sequence[str]) -> str:
    """In a line or two: the first finding, and how many others there are."""
    if findings:
        first, more = findings[0], len(findings) - 1
        others = f" And {more} more: see the page Text." if more else ""
        return f"{first.kind}{first.where}. {first.evidence}{others}"
    if unjudged:
        others = f", and {len(unjudged) - 1} more" if len(unjudged) > 1 else ""
        return f"No verdict on the whole: {unjudged[0]}{others}."
    return NOTHING


def proof(findings: Sequence[Finding], charts: Sequence[Chart], tags: Collection[str]) -> Chart:
    """A copy of the chart that shows the first finding's best curve, or a chart of that curve
    alone. Without a finding, a copy of the first of the ``charts`` that has a curve."""
    curves = findings[0].curves if findings else ()
    best = next((tag for tag in curves if tag in tags and "(" not in tag), None)
    alone = lines("all curves", ANY) if best is None else lines(best, re.escape(best))
    looked_for = tags if best is None else [best, in_decades(best)]
    found = Chart()
    found.CopyFrom(next((each for each in charts if has_curve(each, looked_for)), alone))
    return found


def in_decades(tag: str) -> str:
    """The tag of the logarithmic curve that the charts show in place of the curve ``tag``."""
    return tag.replace("/[all", "/[median").replace("/", f"{DECADES}/")


def has_curve(chart: Chart, tags: Collection[str]) -> bool:
    filled = [tag for each in chart.margin.series for tag in (each.value, each.lower, each.upper)]
    patterns = [*chart.multiline.tag, *(f"{re.escape(tag)}$" for tag in filled)]
    return any(re.match(pattern, tag) for pattern in patterns for tag in tags)


def lines(title: str, pattern: str) -> Chart:
    """A line for each curve whose whole tag matches the pattern."""
    return Chart(title=title, multiline=MultilineChartContent(tag=[f"^{pattern}$"]))


def below(tag: str, title: str = "") -> Chart:
    return lines(title or tag, f"{tag}/{ANY}")


def whole(tag: str, optimizers: Sequence[str]) -> Chart:
    """A line for each optimizer: the curve of all its layers together."""
    series = [line(f"{tag}/[all{of(name)}]") for name in optimizers]
    return margins(f"{tag}, of all layers", *series)


def subject(tag: str) -> str:
    """What a curve that ``log`` was given is about: its name up to a slash, without the words that
    tell training from evaluation, as in ``loss/validation``, ``eval_loss`` and ``val/loss``."""
    name = re.sub(rf"^({SPLIT})[ _./-]|[ _.-]({SPLIT})(?=/|$)", "", tag)
    return name.split("/")[0]


def together(title: str) -> Chart:
    """One chart of all that ``log`` is given on one subject."""
    return lines(title, rf"(({SPLIT})[ _./-])?{re.escape(title)}([ _.-]({SPLIT}))?(/{ANY})?")


def over_layers(tag: str, title: str = "") -> Chart:
    return margins(title or f"{tag}, over layers", filled(tag, ""))


def updates_over_layers(name: str) -> Chart:
    """The updates of one optimizer, as decimal logarithms, with the band of the rule of thumb
    behind them."""
    tag = UPDATES + DECADES
    low, high = (f"{tag}/{edge}{of(name)}" for edge in THUMB)
    band = Series(value=f"{tag}/[largest so far{of(name)}]", lower=low, upper=high)
    title = f"update to weight, log10: -3 is usual{of(name)}"
    return margins(title, filled(tag, of(name)), band)


def gradients_over_layers(name: str) -> Chart:
    tag = GRADIENTS + DECADES
    so_far = line(f"{tag}/[largest so far{of(name)}]")
    return margins(f"gradient norm, log10{of(name)}", filled(tag, of(name)), so_far)


def of(optimizer: str) -> str:
    """The optimizer's name as it stands in tags; empty if there is only one."""
    return f" of {optimizer}" if optimizer else ""


def margins(title: str, *series: Series) -> Chart:
    return Chart(title=title, margin=MarginChartContent(series=series))


def filled(tag: str, of: str) -> Series:
    """The median as a line, with the area between the smallest and the largest value filled."""
    value, lower, upper = (f"{tag}/[{name}{of}]" for name in ("median", "smallest", "largest"))
    return Series(value=value, lower=lower, upper=upper)


def line(tag: str) -> Series:
    return Series(value=tag, lower=tag, upper=tag)


def as_shown(charts: Sequence[Chart]) -> list[Chart]:
    """The charts in an order that TensorBoard turns into the given one. It shows margin charts
    last."""
    margins = [chart for chart in charts if chart.HasField("margin")]
    return [chart for chart in charts if chart not in margins] + margins[::-1]
