"""The chapter in both languages: every section is whole, its commands are real, the two agree."""

import re
import runpy
from pathlib import Path

import pytest

from torchopt_ref.cli import parse
from torchopt_ref.experiments import experiment
from torchopt_ref.experiments.lab.settings import Settings

ROOT = Path(__file__).parents[1]
LANGUAGES = {"en": ROOT / "docs" / "chapter.md", "zh": ROOT / "docs" / "chapter.zh.md"}
QUOTATION = runpy.run_path(str(ROOT / "scripts" / "docs.py"))["QUOTATION"]
SUBJECTS = [
    *("sgd", "momentum", "adagrad", "rmsprop", "adam", "choice"),
    *("equal", "activations", "xavier", "he"),
    *("batchnorm", "batchnorm-backward", "batchnorm-evaluation"),
    *("overfitting", "weight-decay", "dropout", "search"),
]
COMMAND = re.compile(r"torchopt-ref run ([^`\n]+)")
each_language = pytest.mark.parametrize("language", LANGUAGES)


def sections(language):
    """The text of each section, by its anchor; that before the first one by ""."""
    first, *others = re.split(r'\n<a name="([\w-]+)"></a>\n', LANGUAGES[language].read_text())
    return {"": first} | dict(zip(others[::2], others[1::2], strict=True))


@each_language
def test_every_subject_has_a_section_and_a_row_that_leads_to_it(language):
    before, *found = sections(language).items()
    assert [anchor for anchor, _ in found] == SUBJECTS
    rows = re.findall(r"^\| \[[^\]]+\]\(#([\w-]+)\) \|(.*)\|$", before[1], re.M)
    assert [anchor for anchor, _ in rows] == SUBJECTS
    for anchor, cells in rows:
        numpy, torch, figure, command = cells.split("|")[1:]
        assert ".py)" in numpy, anchor
        assert ".py)" in torch, anchor
        assert ".svg)" in figure, anchor
        assert COMMAND.search(command), anchor


@each_language
@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_section_is_whole(language, subject):
    text = sections(language)[subject]
    assert re.search(r"^\$\$.+\$\$$", text, re.M), "no formula"
    columns = re.findall(r"<td [^>]+>(.*?)</td>", text, re.S)
    assert len(columns) >= 2, "no columns"
    assert all(QUOTATION.search(column) for column in columns), "a column without code"
    assert f".{language}.svg" in text, "no figure"
    assert re.search(r"^```\ntorchopt-ref run .+\n```$", text, re.M), "no command"
    asked, _, answered = text.rpartition("<details>")
    assert re.search(r"[?\uff1f]", asked.splitlines()[-2]), "no question"
    assert answered.rstrip().endswith("</details>"), "no answer"


def test_both_languages_have_the_same_code_formulas_commands_and_figures():
    english, chinese = sections("en"), sections("zh")
    for subject, text in english.items():
        translated = chinese[subject].replace(".zh.", ".en.")
        for what in (
            r"<!-- source: .+ -->",
            r"^\$\$.+\$\$$",
            r"torchopt-ref [^`\n]+",
            r"images/chapter/[^)\"]+",
            r"\]\((\.\./[^)]+)\)",
        ):
            found = re.findall(what, text, re.M)
            assert re.findall(what, translated, re.M) == found, (subject, what)


@pytest.mark.parametrize(
    "command",
    sorted({match for path in LANGUAGES.values() for match in COMMAND.findall(path.read_text())}),
)
def test_a_command_is_one_that_runs(command):
    name, *options = command.split()
    options_of = Settings if name == "all" else experiment(name).Config
    config = parse(options_of, options, prog="torchopt-ref run")
    if not config.download:
        config.check()


@pytest.mark.parametrize(("readme", "chapter"), [("", "chapter.md"), (".zh", "chapter.zh.md")])
def test_the_chapter_is_one_click_from_the_readme(readme, chapter):
    first_screen = "\n".join((ROOT / f"README{readme}.md").read_text().splitlines()[:60])
    assert f"](docs/{chapter})" in first_screen
    assert f"](README{'' if readme else '.zh'}.md)" in first_screen
