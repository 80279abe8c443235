"""All reports on one page."""

import json
import os
import re
from html import unescape
from pathlib import Path

import pytest

from tests.experiments.made_up_reports import CHINESE, ENGLISH, claim, make_all, make_run, summary
from torchopt_ref.cli import main
from torchopt_ref.experiments import EXPERIMENTS, experiment
from torchopt_ref.experiments.lab import report
from torchopt_ref.experiments.lab.run import run_name


def page_of(runs, *options):
    assert main(["report", str(runs), *options]) == 0
    return (runs / "report.html").read_text()


def test_the_latest_run_of_each_experiment_is_on_the_page(tmp_path, capsys):
    make_run(tmp_path, "dropout", "old", time=1_000_000_000)
    make_run(tmp_path, "dropout", "new", claim("dropout", torch="fails"), time=1_000_000_100)
    make_run(tmp_path, "overfit", "only")
    (tmp_path / "overfit" / "unfinished").mkdir()
    page = page_of(tmp_path)
    assert str(tmp_path / "report.html") in capsys.readouterr().out
    assert "On dropout new?" in page
    assert "On dropout old" not in page
    assert "On overfit only?" in page
    assert "overfit &lt;works&gt; &amp; more" in page
    assert "<td>0.5 ± 0.1</td>" in page


def test_experiments_stand_in_the_order_of_the_chapter(tmp_path):
    for name in reversed([*EXPERIMENTS]):
        make_run(tmp_path, name, "run")
    make_run(tmp_path, "another", "run")
    names = re.findall('<section id="(.*?)"', page_of(tmp_path))
    assert names == [*EXPERIMENTS, "another"]
    assert re.findall('<a href="#(.*?)"', page_of(tmp_path)) == names


def visible(page):
    """The text that a reader sees of a page."""
    page = re.sub("<(svg|style).*?</\\1>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub("<[^>]*>", " ", page)).split())


def test_a_claim_counts_once_and_has_a_sign_for_each_side(tmp_path):
    claims = [
        claim("one", numpy="holds", torch="holds"),
        claim("two", numpy="holds", torch="fails"),
        claim("three", numpy="undecided", torch="holds"),
        claim("three and a half", numpy="undecided", torch="fails"),
        claim("four", both="holds"),
    ]
    make_run(tmp_path, "weight-init", "run", *claims)
    page = page_of(tmp_path)
    assert "✓ holds: 2 · ✗ does not hold: 2 · ? not decided: 1" in visible(page)
    rows = re.findall("<tr><td>([\\w ]+) &lt;works.*?</tr>", page, flags=re.DOTALL)
    assert rows == ["one", "two", "three", "three and a half", "four"]
    signs = re.findall('class="mark \\w+".*?>([✓✗?])<', page)
    assert "".join(signs) == "✓✓✓✗?✓?✗✓"
    assert '<td colspan="2" class="mark holds"' in page
    assert "not decided: one seed" in visible(page)
    folded = re.findall("<ul>(.*?)</ul>", page)
    assert [each.count("<li>") for each in folded] == [2, 2, 2], "what both sides say stands above"


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_quick_run_says_at_the_top_that_its_numbers_mean_nothing(lang, tmp_path):
    said = {"en": "numbers mean nothing", "zh": "数值没有意义"}[lang]
    make_run(tmp_path, "overfit", "full")
    assert said not in page_of(tmp_path, "--lang", lang)
    make_run(tmp_path, "dropout", "quick", quick=True)
    top, overfit, dropout = page_of(tmp_path, "--lang", lang).split("<section")
    assert said in top
    assert said not in overfit
    assert said in dropout


def test_a_page_is_in_one_language(tmp_path):
    make_run(tmp_path, "overfit", "run", claim("c", numpy="holds", torch="undecided"), quick=True)
    english, chinese = (page_of(tmp_path, "--lang", lang) for lang in ("en", "zh"))
    assert english == page_of(tmp_path)
    assert '<html lang="zh">' in chinese
    assert "<text>zh &lt; 2</text>" in chinese
    assert "<text>en" not in chinese
    assert not CHINESE.search(visible(english))
    assert not ENGLISH.search(visible(chinese))
    assert main(["report", str(tmp_path), "--lang", "de"]) == 2


def test_the_page_needs_nothing_from_outside(tmp_path):
    make_run(tmp_path, "overfit", "only")
    page = page_of(tmp_path)
    assert page.count("<svg") == 1
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


@pytest.mark.parametrize(
    "drawing", ["", "<svg>", "<svg></svg><p>", "<!-- <svg --><svg/>", "a pipe", "no file"]
)
def test_half_a_drawing_does_not_swallow_the_page(drawing, tmp_path):
    file = make_run(tmp_path, "overfit", "only") / "accuracy.en.svg"
    if drawing in ("a pipe", "no file"):
        file.unlink()
        if drawing == "a pipe":
            os.mkfifo(file)
    else:
        file.write_text(drawing)
    page = page_of(tmp_path)
    assert "<figure" not in page
    assert "The seen." in page


def test_nothing_in_a_figure_is_run_or_fetched(tmp_path):
    file = make_run(tmp_path, "overfit", "only") / "accuracy.en.svg"
    file.write_text("<svg><script>alert()</script></svg>")
    before, _ = page_of(tmp_path).split("<script>")
    assert "Content-Security-Policy\" content=\"default-src 'none'; style-src" in before


def test_a_figure_whose_name_no_file_can_have_is_left_out(tmp_path):
    file = make_run(tmp_path, "overfit", "only") / "results.json"
    file.write_text(file.read_text().replace('"accuracy"', f'"{"a" * 300}"'))
    assert "<figure" not in page_of(tmp_path)


def test_run_all_ends_with_what_all_found_and_where_it_stands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_all(tmp_path / "runs", EXPERIMENTS, claim("a", torch="holds"), claim("b", torch="fails"))
    assert main(["run", "all"]) == 0
    *_, empty, page, hint = capsys.readouterr().out.splitlines()
    assert (empty, page) == ("", f"All of it on one page: {Path('runs', 'report.html')}")
    assert hint == "See the curves: torchopt-ref tensorboard runs"
    assert (tmp_path / "runs" / "report.html").read_text().count("<section") == len(EXPERIMENTS)


def test_what_is_said_in_brackets_is_printed_as_it_stands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_all(tmp_path / "runs", ["dropout"], claim("[bold] [/a]", torch="holds"))
    assert main(["run", "dropout"]) == 0
    assert "[bold] [/a] <works>" in capsys.readouterr().out


def test_what_is_printed_in_chinese_is_whole(capsys):
    told = "最终损失为：0.1，" * 30
    claimed = claim("it", torch="holds")
    claimed["sides"]["torch"]["evidence"] = ["", told]
    report.show(summary("search", "On it", claimed), "zh")
    assert told in "".join(capsys.readouterr().out.split())


def test_run_all_counts_each_claim_once_in_80_columns(tmp_path, capsys):
    claims = [claim("a", numpy="holds", torch="holds"), claim("b", both="undecided")]
    make_all(tmp_path, EXPERIMENTS, *claims)
    assert main(["run", "all", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-2])) <= 80
    table = [line.split() for line in lines if line.startswith(tuple(EXPERIMENTS))]
    assert table == [[name, "1", "0", "1"] for name in EXPERIMENTS]


def test_run_all_speaks_chinese(tmp_path, capsys):
    make_all(tmp_path, EXPERIMENTS)
    assert main(["run", "all", "--lang", "zh", "--out", str(tmp_path)]) == 0
    assert not ENGLISH.search(capsys.readouterr().out)
    assert '<html lang="zh">' in (tmp_path / "report.html").read_text()


def test_run_all_shows_the_runs_of_its_options_not_later_ones(tmp_path):
    make_all(tmp_path, EXPERIMENTS)
    make_run(tmp_path, "overfit", "later", time=2_000_000_000)
    assert main(["run", "all", "--out", str(tmp_path)]) == 0
    assert "On overfit later" not in (tmp_path / "report.html").read_text()
    assert "On overfit later" in page_of(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sides", "numpy"], "the search is run by torch alone"),
        (["--iterations", "5"], "unknown option '--iterations'"),
        (["--lang", "de"], "unknown language 'de'"),
        (["--seeds", "0"], "--seeds must be at least 1"),
    ],
)
def test_what_one_experiment_refuses_run_all_refuses_before_the_first(
    options, message, tmp_path, capsys
):
    assert main(["run", "all", *options, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["nothing", "missing"])
def test_without_a_finished_run_it_says_how_to_make_one(tmp_path, name, capsys):
    runs = tmp_path / name
    if name == "nothing":
        runs.mkdir()
    assert main(["report", str(runs)]) == 2
    assert capsys.readouterr().err == (
        f"torchopt-ref: no finished experiment in {runs}: give the folder of all experiments, or "
        "start with torchopt-ref run all\n"
    )


FOUND = {"outcome": "holds", "evidence": ["E.", "据。"], "because": ["", ""]}
CLAIM = {"claim": ["c", "说"], "rule": ["r", "规"], "sides": {"torch": FOUND}}
TABLE = {"title": ["t", "表"], "columns": ["a"], "rows": [["1"]]}
DAMAGES = {
    "no JSON": (b"{", "no JSON: "),
    "empty": (b"", "no JSON: "),
    "not UTF-8": (b'{"experiment": "\xff"}', "no JSON: .*utf-8"),
    "deep": (b"[" * 100_000, "no JSON: "),
    "a list": (b"[]", "it is no object"),
    "foreign": (b'{"accuracy": 1}', "it has no 'experiment' that is a str"),
    "earlier": ({"verdicts": []}, "it was written by an earlier version"),
    "wrong types": ({"config": 3}, "it has no 'config' that is a dict"),
    "one language": ({"title": ["A title"]}, "it has no 'title' in en and zh"),
    "no language": ({"seen": "A text"}, "it has no 'seen' that is a list"),
    "a claim": ({"claims": [3]}, "a claim is no object"),
    "half a claim": ({"claims": [{**CLAIM, "rule": 3}]}, "a claim has no 'rule'"),
    "no side": ({"claims": [{**CLAIM, "sides": {}}]}, "a claim has no side"),
    "a side": ({"claims": [{**CLAIM, "sides": {"torch": 3}}]}, "a side of a claim is no object"),
    "an unknown side": (
        {"claims": [{**CLAIM, "sides": {"jax": FOUND}}]},
        "a claim has a side 'jax'",
    ),
    "an outcome": (
        {"claims": [{**CLAIM, "sides": {"torch": {**FOUND, "outcome": "maybe"}}}]},
        "a claim has no outcome among holds, fails, undecided",
    ),
    "a figure elsewhere": (
        {"figures": {"../../x": ["t", "图"]}},
        "it has a figure called '../../x'",
    ),
    "a table": ({"tables": ["a"]}, "a table is no object"),
    "rows": ({"tables": [{**TABLE, "rows": [["1", "2"]]}]}, "the rows of a table differ"),
    "a cell": ({"tables": [{**TABLE, "rows": [[None]]}]}, "a row of a table has no 'cell'"),
    "seconds": (
        {"environment": {"finished": "now", "seconds": {"a": {"torch": "1"}}}},
        "its seconds has no 'torch' that is a float",
    ),
    "no time": ({"environment": {}}, "its environment has no 'finished'"),
}


@pytest.mark.parametrize(("change", "said"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_run_is_left_out_with_a_line(change, said, tmp_path, capsys):
    make_run(tmp_path, "dropout", "damaged")
    file = tmp_path / "dropout" / "damaged" / "results.json"
    if isinstance(change, dict):
        change = json.dumps(json.loads(file.read_text()) | change).encode()
    file.write_bytes(change)
    assert main(["report", str(tmp_path)]) == 2
    alone = capsys.readouterr().err
    assert re.fullmatch(f"torchopt-ref: left out {file}: .*{said}.*\n", alone), alone
    make_run(tmp_path, "dropout", "sound", time=1)
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().err == alone
    assert "On dropout sound" in (tmp_path / "report.html").read_text()


def test_a_training_is_no_experiment(tmp_path, capsys):
    run = tmp_path / "train" / "first"
    (run / "checkpoints").mkdir(parents=True)
    (run / "results.json").write_text('{"test accuracy": 0.9}')
    assert main(["report", str(tmp_path)]) == 2
    assert "no finished experiment" in capsys.readouterr().err
    make_run(tmp_path, "overfit", "only")
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""


LIMITED = """
import resource, signal, sys
from torchopt_ref.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sys.exit(main(["report", sys.argv[1]]))
"""


def test_the_old_page_stays_until_the_new_one_is_whole(starter, tmp_path_factory, tmp_path):
    make_run(tmp_path, "overfit", "only")
    page = tmp_path / "report.html"
    page.write_text("old")
    log = tmp_path_factory.mktemp("elsewhere") / "log"
    assert starter.wait(starter.start([tmp_path], log, code=LIMITED)) == 2
    said = log.read_text()
    assert re.fullmatch(f"torchopt-ref: cannot write {page}: File too large: .*\n", said)
    assert page.read_text() == "old"
    assert {each.name for each in tmp_path.iterdir()} == {"overfit", "report.html"}


@pytest.mark.parametrize("name", ["results.json", "units/SGD-seed0.json"])
def test_what_an_earlier_run_left_is_not_believed_when_it_is_damaged(name, tmp_path, capsys):
    module = experiment("optimizers")
    folder = tmp_path / module.NAME / run_name(module, module.Config())
    (folder / "units").mkdir(parents=True)
    (folder / name).write_text("[]")
    assert main(["run", module.NAME, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        f"torchopt-ref: {folder / name} is damaged: it is no object: run it again with --force"
    )


@pytest.mark.parametrize("outcome", ["{}", '{"numpy": 3}', '{"digest": "0"}'])
def test_a_unit_that_does_not_have_its_digest_is_not_believed(outcome, tmp_path, capsys):
    module = experiment("optimizers")
    folder = tmp_path / module.NAME / run_name(module, module.Config())
    (folder / "units").mkdir(parents=True)
    (folder / "units" / "SGD-seed0.json").write_text(outcome)
    assert main(["run", module.NAME, "--out", str(tmp_path)]) == 2
    assert "it does not have the digest" in capsys.readouterr().err


def test_results_of_another_run_are_not_shown_as_this_ones(tmp_path, capsys):
    module = experiment("optimizers")
    folder = tmp_path / module.NAME / run_name(module, module.Config())
    make_run(tmp_path, "overfit", "only")
    folder.mkdir(parents=True)
    (tmp_path / "overfit" / "only" / "results.json").rename(folder / "results.json")
    assert main(["run", module.NAME, "--out", str(tmp_path)]) == 2
    assert "results.json is of another run: run it again" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_pipe_in_a_run_is_not_waited_for(tmp_path):
    make_run(tmp_path, "overfit", "only")
    (tmp_path / "dropout" / "pipe").mkdir(parents=True)
    os.mkfifo(tmp_path / "dropout" / "pipe" / "results.json")
    assert main(["report", str(tmp_path)]) == 0
    os.mkfifo(tmp_path / "overfit" / "only" / "events.out.tfevents.1")
    assert main(["inspect", str(tmp_path / "overfit" / "only")]) == 0
