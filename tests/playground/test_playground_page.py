"""What a person does with the page, in a real browser."""

import re
from pathlib import Path

import numpy as np
import pytest

from numpy_ref.network import MultiLayerNet
from torchopt_ref.playground import page
from torchopt_ref.sides import KNOWN

SHIPPED = Path(__file__).parents[2] / "docs" / "playground.html"
PACKAGE = Path(page.__code__.co_filename).parent
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
DESKTOP = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}


def test_the_page_that_is_shipped_is_what_the_build_makes():
    """If not: torchopt-ref playground --out docs/playground.html."""
    assert SHIPPED.read_text(encoding="utf-8") == page()


def test_the_page_is_one_small_file():
    text = page()
    assert len(text.encode()) < 400_000
    assert re.findall(r"https?://\S+", text) == ["http://www.w3.org/2000/svg'"], "but a name space"
    assert "default-src 'none'" in text
    assert "{{" not in text.replace("${{", "")


def test_every_optimizer_of_every_dialect_can_be_chosen(opened):
    found = opened.run(
        """
        // Of the other cards the paths need not be walked.
        for (const each of [...document.querySelectorAll(".remove")].slice(1)) each.click();
        const found = [];
        const [dialect, choice] = document.querySelectorAll("#cards .card select");
        for (const { value } of [...dialect.options]) {
          dialect.value = value;
          dialect.dispatchEvent(new Event("change"));
          for (const option of [...choice.options]) {
            choice.value = option.value;
            choice.dispatchEvent(new Event("change"));
            const card = document.querySelector("#cards .card");
            const named = [...card.querySelectorAll("[data-hyper]")].map((e) => e.dataset.hyper);
            const worded = [...card.querySelectorAll("[data-t], [data-named]")];
            const silent = worded.filter((each) => !each.textContent).map((each) => each.outerHTML);
            const finite = PATHS.runs[0].path.position.every(Number.isFinite);
            found.push([option.value, named, finite, silent]);
          }
        }
        return found;
        """
    )
    assert [name for name, *_ in found] == [known.name for known in KNOWN]
    assert all(finite and not silent for _, _, finite, silent in found)
    shown = {name: named for name, named, *_ in found}
    assert shown["book.Adam"] == ["lr", "betas[0]", "betas[1]", "eps"]
    assert {"momentum", "dampening", "nesterov", "maximize", "weight_decay"} < {*shown["SGD"]}


def test_another_dialect_keeps_the_method_and_its_learning_rate(opened):
    """However the dialect writes the method's name."""
    found = opened.run(
        """
        for (const each of [...document.querySelectorAll(".remove")].slice(1)) each.click();
        const [dialect, choice] = document.querySelectorAll("#cards .card select");
        const change = (select, value) => {
          select.value = value;
          select.dispatchEvent(new Event("change"));
        };
        return ["AdaGrad", "RMSprop", "Adam"].map((method) => {
          change(dialect, "torch");
          change(choice, method);
          return [...dialect.options].map(({ value }) => {
            change(dialect, value);
            return [choice.value, PATHS.runs[0].h.lr];
          });
        });
        """
    )
    for methods in found:
        names, rates = zip(*methods, strict=True)
        assert len({name.rpartition(".")[2].lower() for name in names}) == len({*rates}) == 1, names


def test_a_number_may_not_be_more_than_the_constructor_takes(opened):
    """Keras' momentum is at most 1."""
    said = opened.run(
        """
        const [dialect] = document.querySelectorAll("#cards .card select");
        dialect.value = "keras";
        dialect.dispatchEvent(new Event("change"));
        const row = document.querySelector("#cards .card [data-hyper=momentum]");
        const number = row.querySelector("input[type=text]");
        return [1, 1.5, 0.5].map((typed) => {
          number.value = typed;
          number.dispatchEvent(new Event("input"));
          return [row.querySelector(".wrong").textContent, PATHS.runs[0].h.momentum];
        });
        """
    )
    assert said == [["", 1], ["must be a number from 0 to 1", 1], ["", 0.5]]


def test_both_languages_say_everything(opened):
    """Every key of a language is in the other, with the same values, and is used."""
    words = opened.run("return WORDS")
    assert words["en"].keys() == words["zh"].keys()
    for key, text in words["en"].items():
        values = re.findall(r"\{\w+\}", text)
        assert sorted(values) == sorted(re.findall(r"\{\w+\}", words["zh"][key])), key
    for chosen, other in (("zh", "en"), ("en", "zh")):
        opened.run(
            "document.querySelector(`button[data-language=${arguments[0]}]`).click()", chosen
        )
        texts = opened.run(
            """
            const all = [...document.querySelectorAll("[data-t], [data-label]")];
            return all.map((e) => [e.dataset.t, e.textContent, e.dataset.label, e.ariaLabel]);
            """
        )
        for key, text, label_key, label in texts:
            assert key is None or text == words[chosen][key]
            assert label_key is None or label == words[chosen][label_key]
        assert opened.run("return document.documentElement.lang").startswith(chosen)
        assert words[chosen]["title"] != words[other]["title"]
    hyper = {
        f"{name}.{i}" if isinstance(described["value"], list) else name
        for each in opened.run("return Object.values(OPTIMIZERS)")
        for name, described in each["hyper"].items()
        for i in range(2)
    }
    assert hyper <= words["en"].keys(), "a hyper-parameter has no words"
    parts = [*PACKAGE.glob("*.js"), PACKAGE / "page.html"]
    text = "".join(part.read_text(encoding="utf-8") for part in parts if part.name != "words.js")
    made = opened.run(
        """
        return Object.values(OPTIMIZERS).flatMap(({ dialect, hyper, forms }) => [
          `dialect_${dialect}`,
          ...Object.keys(hyper),
          ...forms.flatMap((form) => Object.keys(form.slots({})).map((name) => `slot_${name}`)),
        ]);
        """
    )
    unused = words["en"].keys() - hyper - {*made} - {*re.findall(r"\w+", text)}
    assert not unused, "nobody says it"


@pytest.mark.parametrize(
    ("asked", "browsers", "shown"),
    [
        ("auto", "zh-CN", ["zh", "zh-CN"]),
        ("en", "zh-CN", ["en", "en"]),
        pytest.param("auto", "en-GB", ["en", "en"], marks=pytest.mark.slow),
        pytest.param("zh", "en-GB", ["zh", "zh-CN"], marks=pytest.mark.slow),
    ],
)
def test_the_language_is_the_browsers_or_the_one_asked_for(
    chromium, tmp_path, asked, browsers, shown
):
    """Chromium's is set by the tests; a page of its own says which it took."""
    agent = chromium.run("return navigator.userAgent")
    (tmp_path / "page.html").write_text(page(asked), encoding="utf-8")
    override = {"userAgent": agent, "acceptLanguage": browsers}
    chromium.devtools("Emulation.setUserAgentOverride", **override)
    chromium.open((tmp_path / "page.html").as_uri())
    found = chromium.run("return [language, document.documentElement.lang]")
    chromium.devtools("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage="en-GB")
    assert found == shown


def test_it_plays_pauses_steps_and_scrubs_by_keyboard(opened):
    time = "return PATHS.time"
    opened.run("document.activeElement.blur(); scrollTo(0, 0)")
    opened.press("ArrowRight", "ArrowRight", "ArrowLeft")
    assert opened.run(time) == 1
    opened.press("ArrowLeft", "ArrowLeft")
    assert opened.run(time) == 0
    opened.press(" ")
    assert opened.run("return playing") == "paths"
    assert (
        opened.run(
            "cancelAnimationFrame(request); PATHS.time = 1; frame(before - 9); return PATHS.time"
        )
        == 1
    )
    opened.press(" ")
    assert opened.run("return playing") is None
    assert opened.run(time) >= 1
    opened.run("document.getElementById('time').focus()")
    before = int(opened.run(time))
    opened.press("ArrowRight", "ArrowRight")
    assert opened.run(time) == before + 2
    opened.run("document.querySelector('#cards .card input[type=range]').focus()")
    lr = opened.run("return PATHS.runs[0].h.lr")
    path = opened.run("return [...PATHS.runs[0].path.position]")
    opened.press("ArrowRight")
    assert opened.run("return PATHS.runs[0].h.lr") > lr
    assert opened.run("return [...PATHS.runs[0].path.position]") != path


def test_the_surface_is_walked_and_drawn_by_keyboard(opened):
    opened.run("document.getElementById('map').focus()")
    opened.press("ArrowRight", "ArrowUp")
    assert opened.run("return PATHS.start") == [-6.6, 2.2]
    opened.run("players.paths.choose('drawn'); document.getElementById('map').focus()")
    height = "return SURFACES.drawn.at(-5.24 + 0.24, 3)[0]"
    before = opened.run(height)
    opened.press("ArrowLeft", "ArrowRight", "Enter")
    assert opened.run(height) < before - 0.3, "nothing was dug"


@pytest.mark.slow
def test_every_control_can_be_reached_by_tab_and_has_a_name(opened):
    opened.run("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    tree = opened.devtools("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "combobox", "slider", "textbox", "spinbutton", "checkbox", "application"}
    nodes = [each for each in tree if each.get("role", {}).get("value") in roles]
    assert len(nodes) > 60
    assert [each for each in nodes if not each["name"]["value"].strip()] == []
    unreachable = opened.run(
        """
        const all = document.querySelectorAll("button, select, input, summary, #map");
        const lost = [...all].filter((each) => each.checkVisibility() && each.tabIndex < 0);
        return lost.map((each) => each.outerHTML);
        """
    )
    assert unreachable == []


def test_a_number_is_typed_and_one_that_cannot_be_is_refused_in_words(opened):
    typed = """
        const card = document.querySelectorAll("#cards .card")[4];
        const row = card.querySelector(`[data-hyper="${arguments[0]}"]`);
        const box = row.querySelector("input[type=text]");
        box.value = arguments[1];
        box.dispatchEvent(new Event("input"));
        const { lr, betas, eps } = PATHS.runs[4].h;
        const invalid = box.getAttribute("aria-invalid") === "true";
        return [lr, ...betas, eps, invalid, row.querySelector(".wrong").textContent];
    """
    assert opened.run(typed, "lr", "0.123456789") == [0.123456789, 0.9, 0.999, 1e-7, False, ""]
    assert opened.run(typed, "eps", "0")[3:] == [0, False, ""]
    for name, text, expected in (
        ("lr", "-1", "must be a number from 0 on"),
        ("lr", "much", "must be a number"),
        ("lr", "", "must be a number"),
        ("betas[1]", "1", "must be a number from 0 to less than 1"),
    ):
        assert opened.run(typed, name, text) == [0.123456789, 0.9, 0.999, 0, True, expected]


@pytest.mark.slow
def test_what_was_refused_is_forgotten_with_another_surface_and_said_in_the_new_language(opened):
    found = opened.run(
        """
        const type = (box, text) => {
          box.value = text;
          box.dispatchEvent(new Event("input"));
        };
        const [rate, eps] = ["lr", "eps"].map((name) =>
          [...document.querySelectorAll(`#cards [data-hyper="${name}"]`)].at(-1),
        );
        const steps = document.getElementById("steps");
        for (const box of [rate.querySelector("[type=text]"), steps]) type(box, "0.5e");
        type(eps.querySelector("[type=text]"), "-1");
        document.querySelector("button[data-language=zh]").click();
        players.paths.choose("beale");
        const [said, ...others] = [eps, rate].map((row) => row.querySelector(".wrong").textContent);
        const boxes = [rate.querySelector("[type=text]"), steps];
        return [said, others, boxes.map((box) => [box.ariaInvalid, box.checkValidity()])];
        """
    )
    assert found == ["必须是不小于 0 的数", [""], [["false", True], ["false", True]]]


@pytest.fixture
def screen(opened, request):
    opened.devtools("Emulation.setDeviceMetricsOverride", **request.param)
    opened.devtools("Emulation.setTouchEmulationEnabled", enabled=request.param["mobile"])
    yield request.param
    opened.devtools("Emulation.setTouchEmulationEnabled", enabled=False)
    opened.devtools("Emulation.clearDeviceMetricsOverride")


@pytest.mark.parametrize(
    "screen",
    [PHONE, pytest.param(DESKTOP, marks=pytest.mark.slow)],
    ids=["phone", "desktop"],
    indirect=True,
)
def test_nothing_is_wider_than_the_screen(opened, screen):
    for chosen in ("en", "zh"):
        for surface in ("drawn", "noisy"):
            opened.run("speak(arguments[0]); players.paths.choose(arguments[1])", chosen, surface)
            width, shown = opened.run(
                "const { scrollWidth, clientWidth } = document.documentElement;"
                "return [scrollWidth, clientWidth]"
            )
            assert width == shown <= screen["width"], (chosen, surface)
    density = opened.run(
        "const map = document.getElementById('map'); return map.width / map.clientWidth"
    )
    assert density == pytest.approx(screen["deviceScaleFactor"], rel=0.01)


@pytest.mark.parametrize("screen", [PHONE], ids=["phone"], indirect=True)
def test_a_finger_draws_and_moves_the_start_but_not_by_scrolling(opened, screen):
    opened.run("players.paths.choose('drawn'); document.getElementById('map').scrollIntoView()")
    box = opened.run("return document.getElementById('map').getBoundingClientRect().toJSON()")

    def touch(kind, *parts):
        points = [
            {"x": box["x"] + a * box["width"], "y": box["y"] + b * box["height"]} for a, b in parts
        ]
        opened.devtools("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    before = opened.run("return SURFACES.drawn.dents.length")
    touch("touchStart", (0.2, 0.5))
    for part in (0.3, 0.4, 0.5, 0.6):
        touch("touchMove", (part, 0.5))
    touch("touchEnd")
    assert opened.run("return SURFACES.drawn.dents.length") >= before + 4
    opened.run("players.paths.choose('valley')")
    touch("touchStart", (0.5, 0.25))
    touch("touchEnd")
    assert opened.run("return PATHS.start") == pytest.approx([0, 2.5], abs=1e-6)
    touch("touchStart", (0.2, 0.8))
    for part in (0.7, 0.5, 0.3, 0.1):
        touch("touchMove", (0.2, part))
    touch("touchEnd")
    assert opened.run("return PATHS.start") == pytest.approx([0, 2.5], abs=1e-6)


def test_the_gradients_of_the_surfaces_are_those_of_their_values(chromium):
    errors = chromium.run(
        """
        const worst = {};
        const random = generator(5);
        for (const [name, { at, view: [left, right, bottom, top] }] of Object.entries(SURFACES)) {
          worst[name] = 0;
          for (let k = 0; k < 50; k++) {
            const x = left + (right - left) * random();
            const y = bottom + (top - bottom) * random();
            const [value, dx, dy] = at(x, y);
            const d = 1e-5;
            const found = [at(x + d, y)[0] - at(x - d, y)[0], at(x, y + d)[0] - at(x, y - d)[0]];
            const error = Math.hypot(found[0] / (2 * d) - dx, found[1] / (2 * d) - dy);
            worst[name] = Math.max(worst[name], error / (1 + Math.hypot(dx, dy)));
          }
        }
        return worst;
        """
    )
    # Of two differences of order d^2 f''' and eps f / d, with values up to some 1e4.
    assert max(errors.values()) < 1e-6, errors
    assert len(errors) == 6


def test_noise_depends_on_the_seed_and_the_step_alone(chromium):
    same, other = chromium.run(
        """
        const noise = (key, seed) => {
          const h = defaults(OPTIMIZERS[key]);
          const path = walk(OPTIMIZERS[key], h, SURFACES.noisy, [1, 1], 20, 0.5, seed);
          const exact = (i) => SURFACES.valley.at(...path.position.subarray(i, i + 2)).slice(1);
          return [...Array(20).keys()].flatMap((k) => {
            const [dx, dy] = exact(2 * k);
            return [path.grad[2 * k + 2] - dx, path.grad[2 * k + 3] - dy];
          });
        };
        const [a, b, c] = [noise("SGD", 1), noise("Adam", 1), noise("Adam", 2)];
        const apart = (other) => Math.max(...a.map((value, i) => Math.abs(value - other[i])));
        return [apart(b), apart(c)];
        """
    )
    assert same < 1e-12
    assert other > 0.1


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize(("batchnorm", "dropout"), [(False, 0), (True, 0.3)])
def test_the_network_has_numpys_loss_and_gradients(chromium, activation, batchnorm, dropout):
    rng = np.random.default_rng(0)
    kept = []

    def draw(shape):
        kept.append(rng.random(shape) >= dropout)
        return kept[-1]

    options = {"activation": activation, "batchnorm": batchnorm, "dropout": dropout}
    reference = MultiLayerNet(2, (5, 4), 2, weight_init="he", draw=draw, rng=rng, **options)
    x, labels = rng.standard_normal((12, 2)), rng.integers(2, size=12)
    loss, grads = reference.gradient(x, labels)
    found = chromium.run(
        """
        const [options, params, x, labels, kept] = arguments;
        const random = () => (kept.shift() ? 1 : 0);
        const network = new Network({ sizes: [2, 5, 4, 2], ...options, random });
        for (const [name, values] of Object.entries(params)) network.tensors[name].set(values);
        const loss = network.gradient(Float64Array.from(x), labels);
        const names = Object.keys(network.tensors);
        const params_ = network.params.slice();
        network.params.set(network.grads);
        const grads = Object.fromEntries(names.map((name) => [name, [...network.tensors[name]]]));
        network.params.set(params_);
        return [loss, grads, [...network.predict(Float64Array.from(x))]];
        """,
        options,
        {name: value.ravel().tolist() for name, value in reference.params.items()},
        x.ravel().tolist(),
        labels.tolist(),
        [bool(each) for mask in kept for each in mask.ravel()],
    )
    assert found[0] == pytest.approx(loss, rel=1e-12)
    assert found[1].keys() == grads.keys()
    for name, grad in grads.items():
        np.testing.assert_allclose(
            found[1][name], grad.ravel(), rtol=1e-10, atol=1e-14, err_msg=name
        )
    np.testing.assert_allclose(found[2], reference.predict(x).ravel(), rtol=1e-12, atol=1e-14)


LAYERS = "return [...document.querySelectorAll('#layers div')].map((each) => each.textContent)"


@pytest.mark.slow
def test_each_section_has_its_buttons(opened):
    shown = opened.run(
        """
        const bars = [...document.querySelectorAll("[data-player]")];
        const named = (bar) => [...bar.querySelectorAll("button")].map((each) => each.dataset.t);
        return Object.fromEntries(bars.map((bar) => [bar.dataset.player, named(bar)]));
        """
    )
    assert shown == {
        "paths": ["play", "back", "forward", "restart"],
        "spirals": ["play", "forward", "restart"],
    }
    click = "document.querySelector(`[data-player=paths] [data-t=${arguments[0]}]`).click()"
    times = []
    for name in ("forward", "forward", "back", "forward", "restart"):
        opened.run(click, name)
        times.append(opened.run("return PATHS.time"))
    assert times == [1, 2, 1, 2, 0]


def test_a_pile_of_zeros_fills_its_histogram_and_the_rest_is_seen_beside_it(opened):
    """From He's weights half of ReLU's activations are 0."""
    bar, beside, end = opened.run(
        """
        const canvas = document.querySelector("#layers canvas");
        const { width, height, clientWidth, clientHeight } = canvas;
        const context = canvas.getContext("2d");
        const color = (x, y) =>
          context.getImageData(x * width, (y * height) / clientHeight, 1, 1).data.join();
        return [color(1 / 60, 8), color(3 / 60, 8), color(3 / 60, clientHeight - 16)];
        """
    )
    assert bar == end != beside


def test_the_network_learns_and_its_choices_start_it_again(opened):
    shown = "return [document.getElementById('plane-text').textContent, SPIRALS.initial]"
    opened.run("for (let k = 0; k < 3; k++) players.spirals.step(1)")
    assert opened.run(shown)[0].startswith("iteration 3:")
    opened.run("document.querySelector('[data-t=std_small]').click()")
    text, initial = opened.run(shown)
    assert text.startswith("iteration 0:")
    assert initial == "std_small"
    captions = opened.run(LAYERS)
    written = [re.search(r"std ([^,]+),", text)[1] for text in captions]
    powers = [text.replace("·10⁻", "e-").replace("10⁻", "1e-") for text in written]
    stds = [float(text.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789"))) for text in powers]
    assert len(stds) == 5
    assert stds[4] < stds[0] / 100, "with small weights and ReLU the signal dies away"
    opened.run("document.getElementById('batchnorm').click()")
    captions = opened.run(LAYERS)
    assert all(0.4 < float(re.search(r"std ([\d.]+)", text)[1]) < 0.8 for text in captions)
    opened.run("toggle('spirals')")
    assert opened.run("return playing") == "spirals"
    opened.run("toggle('paths')")
    assert opened.run("return playing") == "paths", "one at a time"
    opened.run("pause()")


def test_another_optimizer_does_not_go_on_with_what_the_last_one_remembers(opened):
    """With a rate of 0 the textbook's Momentum stays where it is, unless it is given a velocity."""
    before, after = opened.run(
        """
        const choose = (key) => {
          const [dialect] = document.querySelectorAll("#trainer select");
          dialect.value = OPTIMIZERS[key].dialect;
          dialect.dispatchEvent(new Event("change"));
          const [, name] = document.querySelectorAll("#trainer select");
          name.value = key;
          name.dispatchEvent(new Event("change"));
        };
        const steps = (count) => {
          for (let k = 0; k < count; k++) players.spirals.step(1);
          return document.getElementById("plane-text").textContent.split(":")[1];
        };
        choose("SGD");
        SPIRALS.run.h.momentum = 0.9;
        const before = steps(10);
        choose("book.Momentum");
        SPIRALS.run.h.lr = 0;
        return [before, steps(2)];
        """
    )
    assert after == before


def test_what_diverges_is_said_and_does_not_break_the_page(opened):
    opened.run(
        """
        for (const run of PATHS.runs) run.h.lr = 1e3;
        players.paths.choose("rosenbrock");
        for (const run of PATHS.runs) run.h.lr = 1e3;
        const steps = document.getElementById("steps");
        steps.value = 300;
        steps.dispatchEvent(new Event("input"));
        stepBy("paths", 300);
        """
    )
    text = opened.run("return document.querySelector('#cards .status').textContent")
    assert text == "diverged: no finite number is left. Lower the learning rate."
    opened.run("for (const button of document.querySelectorAll('.remove')) button.click()")
    assert opened.run("return PATHS.runs.length") == 0
    opened.run("document.querySelector('#cards > button').click()")
    assert opened.run("return PATHS.runs.length") == 1


@pytest.mark.slow
def test_nothing_is_loaded_from_anywhere(opened):
    """By default ``test_the_page_is_one_small_file`` sees that the page's policy forbids it."""
    opened.run("players.spirals.step(1); players.paths.step(1)")
    assert opened.run("return performance.getEntriesByType('resource').map((e) => e.name)") == []
