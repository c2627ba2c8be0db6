import dataclasses

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery import files
from tf_lottery.experiments import data, networks, retraining
from tf_lottery.experiments.retraining import RetrainSettings, run_retraining

# Annealing ends at step 6 of 8; epochs have two steps.
LENET = RetrainSettings(
    "lenet-300-100",
    ("soft_activations", "label_smoothing", "distillation"),
    epochs=4,
    batch_size=50,
    learning_rate=0.01,
    annealed=0.75,
    alpha=0.5,
    temperature=2.0,
)
CONV = dataclasses.replace(LENET, model="conv-4-small", tweaks=tfl.retrain.TWEAKS)
PLAIN = RetrainSettings("lenet-300-100", epochs=1, batch_size=50)

pytestmark = pytest.mark.usefixtures("small_networks")
trains = pytest.mark.usefixtures("mode")


@pytest.fixture(scope="module", autouse=True)
def few_iterations():
    """Reduces rescaling from 180 iterations to two."""
    recipe = tfl.retrain.recipe
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "tf_lottery.experiments.recipes.recipe",
            lambda *args, **kwargs: recipe(*args, rescaling_iterations=2, **kwargs),
        )
        yield


@pytest.fixture(scope="module")
def digits(digits):
    """Uses the validation digits as test digits, too."""
    return data.Data("digits", digits.train, digits.test, digits.test)


def make_ticket(name, digits, sparsity=0.6):
    """A ticket of pruned initial weights, with the values of the pruned weights."""
    sparse = tfl.sparsify(networks.build(name, digits, seed=3))
    start = tfl.Snapshot(sparse).weights
    tfl.prune(sparse, sparsity)
    return tfl.Ticket.from_model(sparse, weights=start, level=2)


@pytest.fixture(scope="module")
def ticket(small_networks, digits):
    return make_ticket("lenet-300-100", digits)


@pytest.fixture(scope="module")
def teacher(small_networks, digits):
    return networks.build("lenet-300-100", digits, seed=9)


@dataclasses.dataclass
class Run:
    settings: RetrainSettings
    arguments: tuple
    teacher: keras.Model
    folder: object
    recipe: object
    results: dict

    def again(self, folder, **kwargs):
        digits, ticket = self.arguments
        return run_retraining(
            digits, self.settings, ticket, folder, self.teacher, verbose=0, **kwargs
        )


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            LENET, id="lenet", marks=pytest.mark.thorough("the other one has all of its tweaks")
        ),
        pytest.param(CONV, id="conv"),
    ],
)
def run(request, mode, small_networks, digits, tmp_path_factory):
    """A ticket retrained with tweaks; the convolutional network gets all of them."""
    settings, folder, recipes = request.param, tmp_path_factory.mktemp("run"), []
    ticket = make_ticket(settings.model, digits)
    teacher = networks.build(settings.model, digits, seed=9)
    run = Run(settings, (digits, ticket), teacher, folder, None, None)
    run.results = run.again(folder, on_recipe=recipes.append)
    (run.recipe,) = recipes
    return run


def outputs(model, digits):
    return keras.ops.convert_to_numpy(model(digits.test[0], training=False))


def saved(folder):
    model = keras.saving.load_model(folder / "model.keras")
    ticket = tfl.Ticket.load(folder / "ticket.npz")
    return [*ticket.masks.values(), *ticket.weights.values(), *map(np.asarray, model.weights)]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_recipe(run):
    schedule = dict.fromkeys(run.settings.tweaks, (0, 8))
    spans = {"soft_activations": (0, 6), "ghost_skips": (0, 6), "rescaled_initialization": (0, 0)}
    schedule.update({name: span for name, span in spans.items() if name in schedule})
    assert run.recipe.schedule == schedule
    assert run.recipe.steps == 8


def test_results(run):
    digits, ticket = run.arguments
    logits = outputs(keras.saving.load_model(run.folder / "model.keras"), digits)
    logits, labels = logits.astype("float64"), digits.test[1]
    accuracy = np.mean(logits.argmax(axis=-1) == labels)
    assert run.results["test_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    losses = np.log(np.exp(logits).sum(axis=-1)) - logits[np.arange(len(labels)), labels]
    assert run.results["test_loss"] == pytest.approx(losses.mean(), rel=1e-5)
    # The recipe's loss on the same validation examples, with 0.9 on the label.
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    smoothed = (-log_p * 0.1 / 9).sum(axis=-1) + losses * (0.9 - 0.1 / 9)
    assert run.results["history"]["val_loss"][-1] == pytest.approx(smoothed.mean(), rel=1e-5)
    assert smoothed.mean() != pytest.approx(losses.mean(), rel=5e-5)
    assert run.results["density"] == ticket.density == pytest.approx(0.4, abs=1e-4)
    plain = networks.build(run.settings.model, digits, seed=0)
    pruned = sum(np.count_nonzero(~mask) for mask in ticket.masks.values())
    assert run.results["parameters"] == plain.count_params() - pruned
    assert run.results["epochs"] == 4
    assert {len(values) for values in run.results["history"].values()} == {4}
    assert run.results["settings"]["tweaks"] == list(run.settings.tweaks)


def test_saved_model_is_the_plain_network(run):
    digits, ticket = run.arguments
    model = keras.saving.load_model(run.folder / "model.keras")
    plain = networks.build(run.settings.model, digits, seed=0)
    assert [type(layer) for layer in model.layers] == [type(layer) for layer in plain.layers]
    names = [[(w.name, w.shape) for w in network.weights] for network in (model, plain)]
    assert names[0] == names[1]
    assert model.count_params() == plain.count_params()
    activations = [getattr(layer, "activation", None) for layer in model.layers]
    assert activations == [getattr(layer, "activation", None) for layer in plain.layers]
    np.testing.assert_array_equal(outputs(run.recipe.model, digits), outputs(model, digits))
    kernels = [weight for weight in model.weights if weight.path.endswith("kernel")]
    for kernel, mask in zip(kernels, ticket.masks.values(), strict=True):
        assert not np.asarray(kernel)[~mask].any()


def test_ticket_is_kept(run):
    ticket, found = run.arguments[1], tfl.Ticket.load(run.folder / "ticket.npz")
    assert found.level == 2
    assert found.overlap(ticket) == 1.0
    for path, weight in ticket.weights.items():
        np.testing.assert_array_equal(found.weights[path], weight)


def test_second_call_returns_the_results(run):
    before, recipes = contents(run.folder), []
    assert run.again(run.folder, on_recipe=recipes.append) == run.results
    assert contents(run.folder) == before
    assert recipes == []


def test_a_run_killed_while_tweaks_are_annealed_goes_on(run, tmp_path, monkeypatch):
    save, saves, recipes, left = files.save_arrays, [], [], []

    def save_and_die(path, kind, *args):
        save(path, kind, *args)
        saves.append(kind)
        if saves.count("checkpoint") == 2:
            for tweak in recipes[0].model.tweaks:
                left.extend(v for v in tweak.variables if v.name in ("softness", "factor"))
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "save_arrays", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run.again(tmp_path, on_recipe=recipes.append)
    monkeypatch.undo()
    # At step 4 of 6.
    assert [float(variable) for variable in left] == pytest.approx([1 / 3] * len(left))
    assert len(left) == (2 if "ghost_skips" in run.settings.tweaks else 1)
    assert not (tmp_path / "model.keras").exists()
    assert run.again(tmp_path, on_recipe=recipes.append) == run.results
    # The checkpoint has the rescaled weights.
    rescales = "rescaled_initialization" in run.settings.tweaks
    assert [recipe.rescaling is not None for recipe in recipes] == [rescales, False]
    for expected, found in zip(saved(run.folder), saved(tmp_path), strict=True):
        np.testing.assert_array_equal(expected, found)


@trains
def test_a_run_killed_after_training_goes_on(digits, ticket, tmp_path, monkeypatch):
    settings = dataclasses.replace(PLAIN, tweaks=("soft_activations",), annealed=1.0)
    monkeypatch.setattr(retraining, "save_model", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_retraining(digits, settings, ticket, tmp_path / "a", verbose=0)
    monkeypatch.undo()
    for name in "ab":
        results = run_retraining(digits, settings, ticket, tmp_path / name, verbose=0)
        assert len(results["history"]["loss"]) == 1
    for expected, found in zip(*(saved(tmp_path / name) for name in "ab"), strict=True):
        np.testing.assert_array_equal(expected, found)


def test_folder_of_another_run(run):
    digits, ticket = run.arguments
    before = contents(run.folder)
    with pytest.raises(ValueError, match="seed=0 instead of 1"):
        run.again(run.folder, seed=1)
    other = make_ticket(run.settings.model, digits, sparsity=0.5)
    with pytest.raises(ValueError, match="a run with ticket='.*' instead of '.*'"):
        run_retraining(digits, run.settings, other, run.folder, run.teacher)
    teacher = networks.build(run.settings.model, digits, seed=1)
    with pytest.raises(ValueError, match="a run with teacher='.*' instead of '.*'"):
        run_retraining(digits, run.settings, ticket, run.folder, teacher)
    settings = dataclasses.replace(run.settings, tweaks=("label_smoothing",))
    with pytest.raises(ValueError, match="tweaks=.* instead of"):
        run_retraining(digits, settings, ticket, run.folder)
    assert contents(run.folder) == before


def test_conflict_is_found_before_weights_are_rescaled(run, monkeypatch):
    monkeypatch.setattr("tf_lottery.experiments.recipes.recipe", None)
    with pytest.raises(ValueError, match="seed=0 instead of 1"):
        run.again(run.folder, seed=1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "lenet-5"}, "needs images of at least 16x16"),
        ({"model": "conv-4-small"}, "`ticket` must be one of the network 'conv_4'.*hidden_1"),
        ({"tweaks": ("ghost_skips",)}, "must have a masked convolution"),
        ({"tweaks": ("distillation",)}, "`teacher` must be given for 'distillation'"),
        ({"tweaks": ("soft_activations",), "activation": "relu"}, "`activation` must be"),
        ({"annealed": 1.5}, r"`annealed` must be in \(0, 1\]"),
        ({"batch_size": 101}, "`batch_size` must be between 1 and the 100 examples"),
    ],
)
def test_arguments_that_do_not_fit_leave_no_folder(digits, ticket, tmp_path, changes, words):
    settings = dataclasses.replace(PLAIN, **changes)
    with pytest.raises(ValueError, match=words):
        run_retraining(digits, settings, ticket, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("control", [None, "random_reinitialization"])
def test_ticket_of_another_input_shape(digits, ticket, tmp_path, control):
    wide = [(np.repeat(x, 2, axis=2), y) for x, y in (digits.train, digits.validation)]
    wide = data.Data("digits", *wide, wide[1])
    settings = dataclasses.replace(PLAIN, control=control)
    with pytest.raises(ValueError, match="`ticket` must be one of the network 'lenet_300_100'"):
        run_retraining(wide, settings, ticket, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("argument", "value", "received"),
    [("model", "lenet", "lenet"), ("tweaks", ("swish",), "swish"), ("control", "none", "none")],
)
def test_settings_out_of_range(argument, value, received):
    with pytest.raises(ValueError, match=f"`{argument}` must be .* Received: .*'{received}'"):
        dataclasses.replace(PLAIN, **{argument: value})


def test_order_of_tweaks_does_not_count():
    names = ("label_smoothing", "soft_activations", "label_smoothing")
    assert RetrainSettings("lenet-5", names).tweaks == ("soft_activations", "label_smoothing")


@pytest.mark.parametrize(
    ("model", "taught", "steps", "names"),
    [
        ("lenet-300-100", False, 10_000, ["soft_activations", "rescaled_initialization"]),
        ("lenet-300-100", True, 10_000, ["soft_activations", "rescaled_initialization"]),
        ("conv-4-small", False, 10_000, [*tfl.retrain.TWEAKS[:3]]),
        ("conv-4-small", False, 9_999, ["soft_activations", "rescaled_initialization"]),
    ],
)
def test_all_tweaks_that_fit(digits, teacher, tmp_path, monkeypatch, model, taught, steps, names):
    asked, ticket = [], make_ticket(model, digits)
    monkeypatch.setattr(
        "tf_lottery.experiments.recipes.recipe",
        lambda *_, tweaks, **__: asked.extend(tweaks) or 1 / 0,
    )
    length = {"epochs": 1, "steps_per_epoch": steps}
    settings = dataclasses.replace(PLAIN, model=model, tweaks=None, **length)
    with pytest.raises(ZeroDivisionError):
        run_retraining(digits, settings, ticket, tmp_path, teacher if taught else None)
    assert asked == [*names, "label_smoothing", *(["distillation"] if taught else [])]


def retrain(digits, ticket, folder, settings, seed=0):
    """Retrains and returns the masks and kernels before the first step."""
    starts = []

    def on_recipe(recipe):
        starts.append((recipe.model.get_masks(), recipe.model.get_kernels()))

    run_retraining(digits, settings, ticket, folder, None, seed, 0, on_recipe)
    return starts[0]


@trains
def test_plain_retraining_starts_from_the_ticket(digits, ticket, teacher, tmp_path):
    settings = dataclasses.replace(PLAIN, steps_per_epoch=3)
    masks, kernels = retrain(digits, ticket, tmp_path, settings)
    for path, mask in ticket.masks.items():
        np.testing.assert_array_equal(masks[path], mask)
        np.testing.assert_array_equal(kernels[path], ticket.weights[path] * mask)
    progress = files.load_arrays(tmp_path / "checkpoint.npz", "checkpoint")[0]
    assert progress["step/0"] == 3
    # Without distillation the teacher does not matter.
    found = run_retraining(digits, settings, ticket, tmp_path, teacher)
    assert found["settings"]["tweaks"] == []
    (tmp_path / "notes.txt").write_text("mine")
    retraining.remove_retraining(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@trains
@pytest.mark.parametrize("control", retraining.CONTROLS)
def test_controls(digits, ticket, tmp_path, control):
    settings = dataclasses.replace(PLAIN, control=control)
    masks, kernels = retrain(digits, ticket, tmp_path, settings, seed=5)
    new = networks.build("lenet-300-100", digits, seed=1005)
    new = {weight.path: np.asarray(weight) for weight in new.weights}
    kept = {path: mask.sum() for path, mask in ticket.masks.items()}
    if control in ("shuffled_masks", "random_masks"):
        same = {path: masks[path].sum() == number for path, number in kept.items()}
        assert all(same.values()) == (control == "shuffled_masks")
        assert sum(mask.sum() for mask in masks.values()) == sum(kept.values())
        assert not any(np.array_equal(masks[path], ticket.masks[path]) for path in kept)
    else:
        assert all(np.array_equal(masks[path], ticket.masks[path]) for path in kept)
    for path, mask in masks.items():
        old = ticket.weights[path]
        expected = {
            "random_reinitialization": new[path],
            "sign_kept_reinitialization": np.abs(new[path]) * np.sign(old),
            "constant_weights": old.std(dtype="float64") * np.sign(old),
        }.get(control, old)
        np.testing.assert_allclose(kernels[path], expected * mask, rtol=1e-6)
    trained = tfl.Ticket.load(tmp_path / "ticket.npz")
    assert len(trained.provenance["control"]) == 1
    for path, mask in masks.items():
        np.testing.assert_array_equal(trained.masks[path], mask)
        np.testing.assert_array_equal(trained.weights[path] * mask, kernels[path])
