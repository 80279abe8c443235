"""What the tests of reports share: made-up runs, and whether a report is in both languages."""

import json
import os
import re

from torchopt_ref.experiments import experiment
from torchopt_ref.experiments.lab.run import run_name

SVG = '<svg xmlns="http://www.w3.org/2000/svg"><text>{} &lt; 2</text></svg>'


def claim(name, **outcomes):
    sides = {
        side: {
            "outcome": outcome,
            "evidence": ["Seen: 1 < 2.", "看到：1 < 2。"],
            "because": ["one seed", "一个种子"] if outcome == "undecided" else ["", ""],
        }
        for side, outcome in outcomes.items()
    }
    return {
        "claim": [f"{name} <works> & more", f"{name} 有效"],
        "rule": ["R.", "规。"],
        "sides": sides,
    }


def summary(experiment, title, *claims, **config):
    return {
        "experiment": experiment,
        "title": [f"{title}?", f"{title}吗？"],
        **{name: [f"The {name}.", f"这是{name}。"] for name in ("why", "tried", "seen", "sides")},
        "config": {"seed": 0, "quick": False, **config},
        "figures": {"accuracy": ["A figure", "图"]},
        "claims": list(claims) or [claim(experiment, torch="holds")],
        "tables": [
            {
                "title": ["The numbers", "数值"],
                "columns": ["lr", ["loss", "损失"]],
                "rows": [["0.1", "0.5 ± 0.1"]],
            }
        ],
        "environment": {"finished": "2026-01-01T00:00:00"},
    }


def make_run(runs, experiment, name, *claims, time=1_000_000_000, **config):
    """A finished run in a folder of its own; the folder."""
    return write_run(
        runs / experiment / name,
        summary(experiment, f"On {experiment} {name}", *claims, **config),
        time,
    )


def write_run(folder, found, time=1_000_000_000):
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(found))
    for lang in ("en", "zh"):
        (folder / f"accuracy.{lang}.svg").write_text(SVG.format(lang))
    os.utime(folder / "results.json", (time, time))
    return folder


def make_all(out, names, *claims, **options):
    """The runs of these experiments with these options as if they had finished earlier."""
    for name in names:
        module = experiment(name)
        config = module.Config(out=out, **options).as_run()
        found = summary(name, f"On {name}", *claims) | {"config": config.as_json()}
        write_run(out / name / run_name(module, config), found)


def words_of(found):
    """Every text of a summary that is in two languages."""
    if isinstance(found, dict):
        for value in found.values():
            yield from words_of(value)
    elif isinstance(found, list):
        if [type(text) for text in found] == [str, str] and CHINESE.search(found[1]):
            yield found
        else:
            for value in found:
                yield from words_of(value)


ENGLISH = re.compile(r"(?:[A-Za-z']+[ ,]+){3,}[a-z]+")
"""Four English words in a row, which is more than a name."""
CHINESE = re.compile("[\u3000-\u9fff\uff00-\uffef]")


def check_both_languages(folder):
    found = json.loads((folder / "results.json").read_text())
    texts = [*words_of(found)]
    for text in ("title", "why", "tried", "seen"):
        assert found[text] in texts
    for each in found["claims"]:
        assert each["claim"] in texts
        assert each["rule"] in texts
    for en, zh in texts:
        assert not ENGLISH.search(zh), zh
        assert not CHINESE.search(en), en
        # The same numbers stand in both.
        numbers = [sorted(set(re.findall(r"\d+\.\d+", text))) for text in (en, zh)]
        assert numbers[0] == numbers[1], (en, zh)
