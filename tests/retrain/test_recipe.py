import keras
import numpy as np
import pytest
from keras import ops

import tf_lottery as tfl

CASES = {**{name: (name,) for name in tfl.retrain.TWEAKS}, "all": tfl.retrain.TWEAKS}
STEPS = 8


@pytest.fixture
def prepare(sparse, make_residual, images):
    """Returns a function that prepares the residual network with tweaks; returns the recipe."""

    def prepare(tweaks=tfl.retrain.TWEAKS, model=sparse, **kwargs):
        arguments = {
            "batches": images,
            "teacher": make_residual(seed=1),
            "rescaling_iterations": 1,
            **kwargs,
        }
        model.run_eagerly = True
        recipe = tfl.retrain.recipe(model, STEPS, tweaks=tweaks, **arguments)
        compile_with(model, recipe)
        return recipe

    return prepare


def compile_with(model, recipe):
    """Compiles for eager training, since a graph takes longer than the few steps here."""
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        recipe.loss,
        run_eagerly=True,
    )


def train(model, images, callbacks, epochs, initial_epoch=0):
    model.fit(
        *images,
        batch_size=4,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )


def outputs(model, x):
    return ops.convert_to_numpy(model(x))


# Each tweak alone has its own tests; this one checks all of them together.
@pytest.mark.parametrize(
    "case",
    [
        "all",
        *(
            pytest.param(name, marks=pytest.mark.thorough("is among all"))
            for name in tfl.retrain.TWEAKS
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Training stopped at step 2")
def test_plain_model_is_left_after_each_tweak_and_all(
    case, prepare, sparse, make_residual, images, tmp_path
):
    recipe = prepare(CASES[case])
    train(sparse, images, recipe.callbacks, epochs=1)
    # Saved during annealing, which ends at step 4.
    sparse.save(tmp_path / "sparse.keras")
    loaded = keras.saving.load_model(tmp_path / "sparse.keras")
    for model in (sparse, loaded):
        train(model, images, recipe.callbacks, epochs=4, initial_epoch=1)
    annealed = outputs(sparse, images[0])
    recipe.remove()
    assert sparse.tweaks == []
    # The same weights in a network that never had a tweak.
    untouched = make_residual(seed=2)
    untouched.set_weights([ops.convert_to_numpy(weight) for weight in sparse.model.weights])
    assert sparse.model.get_config() == untouched.get_config()
    assert sparse.model.count_params() == untouched.count_params()
    plain = tfl.strip(sparse)
    for model in (sparse, plain, loaded, tfl.strip(loaded), untouched):
        np.testing.assert_array_equal(outputs(model, images[0]), annealed)
    assert sparse.sparsity == pytest.approx(0.5, abs=0.01)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the converter needs it")
@pytest.mark.thorough("converts two models; that the plain model is left is tested without a file")
def test_file_is_that_of_the_plain_model(prepare, sparse, make_residual, images, tmp_path):
    recipe = prepare()
    train(sparse, images, recipe.callbacks, epochs=4)
    untouched = make_residual(seed=2)
    files = [tmp_path / "tweaked.tflite", tmp_path / "plain.tflite"]
    # One storage is enough, since the best one differs from file to file.
    report = tfl.export_tflite(sparse, files[0], storage="dense")
    untouched.set_weights([ops.convert_to_numpy(weight) for weight in sparse.model.weights])
    tfl.export_tflite(untouched, files[1], storage="dense")
    assert report.max_difference < 1e-5
    assert files[0].read_bytes() == files[1].read_bytes()


def test_tweaks_that_the_arguments_allow_are_taken(prepare, make_model, monkeypatch):
    monkeypatch.setattr("tf_lottery.retrain.suitable_tweaks.LONG_TRAINING", STEPS)
    everything = prepare(None)
    assert tuple(everything.schedule) == tfl.retrain.TWEAKS
    assert everything.rescaling.one_step_loss[1] > 0
    dense = tfl.sparsify(make_model("dense"))
    assert tuple(tfl.retrain.recipe(dense, 10).schedule) == ("soft_activations", "label_smoothing")
    recurrent = tfl.sparsify(make_model("recurrent"))
    assert tuple(tfl.retrain.recipe(recurrent, 10).schedule) == ("label_smoothing",)


def test_short_trainings_have_no_ghosts_and_no_teacher(prepare):
    with pytest.warns(UserWarning, match="teacher is not used: in a training of 8 steps"):
        recipe = prepare(None)
    expected = ("soft_activations", "rescaled_initialization", "label_smoothing")
    assert tuple(recipe.schedule) == expected


def test_schedule_says_what_goes_on_until_when(prepare):
    recipe = prepare(annealed=0.25)
    assert recipe.schedule == {
        "soft_activations": (0, 2),
        "ghost_skips": (0, 2),
        "rescaled_initialization": (0, 0),
        "label_smoothing": (0, 8),
        "distillation": (0, 8),
    }
    assert [callback.end_step for callback in recipe.callbacks] == [2, 2]
    assert "ghost skips" in str(recipe) and "8 steps" in str(recipe)


def test_kept_ghost_skips_are_counted_and_not_exported(prepare, sparse, images):
    plain, cost = tfl.summary(sparse), tfl.flops(sparse, "mac")
    recipe = prepare(("soft_activations", "ghost_skips"), keep_ghosts=True)
    assert recipe.schedule == {"soft_activations": (0, 4), "ghost_skips": (0, STEPS)}
    assert [type(callback).__name__ for callback in recipe.callbacks] == ["ActivationAnnealing"]
    train(sparse, images, recipe.callbacks, epochs=4)
    recipe.remove()
    (ghosts,) = sparse.tweaks
    assert float(ghosts.factor) == 1.0
    # A kernel, and gamma, beta, mean and variance for every output.
    weights = [skip["inputs"] * skip["filters"] for skip in ghosts.skips]
    norms = [4 * skip["filters"] for skip in ghosts.skips]
    found = tfl.summary(sparse)
    assert found.num_parameters == plain.num_parameters + sum(weights) + sum(norms)
    assert (found.size, found.nonzeros) == (plain.size, plain.nonzeros)
    assert sum("a ghost skip" in reason for reason in found.skipped.values()) == len(weights)
    uses = {row.path.split("/")[-2]: row.uses for row in cost.rows}
    expected = [w * uses[skip["name"]] for w, skip in zip(weights, ghosts.skips, strict=True)]
    now = tfl.flops(sparse, "mac")
    assert now.sparse == cost.sparse + sum(expected) and now.dense == cost.dense + sum(expected)
    with pytest.raises(ValueError, match="must not have active ghost skips"):
        tfl.strip(sparse)


def test_only_ghost_skips_can_be_kept(prepare):
    with pytest.raises(ValueError, match="`keep_ghosts` needs 'ghost_skips'.*Received"):
        prepare(("label_smoothing",), keep_ghosts=True)


def test_loss_is_smoothed_only_if_that_is_asked_for(prepare, sparse):
    assert isinstance(prepare(("label_smoothing",)).loss, tfl.retrain.SmoothedCrossentropy)
    loss = prepare(()).loss
    assert isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
    assert prepare((), loss="mse").loss == "mse"
    assert sparse.tweaks == []


def test_tweaks_are_not_removed_before_they_are_annealed(prepare, sparse, images):
    recipe = prepare()
    with pytest.raises(ValueError, match=r"to the end of the recipe.*'ghost_skips': 'factor 1'"):
        recipe.remove()
    assert len(sparse.tweaks) == 3


def test_wrong_arguments_are_named_and_nothing_is_changed(sparse, images):
    def refused(message, steps=10, **kwargs):
        with pytest.raises(ValueError, match=message):
            tfl.retrain.recipe(sparse, steps, **kwargs)
        assert sparse.tweaks == []

    refused("`steps` must be an integer > 0", steps=0)
    refused("`tweaks` must be one of .*Received: tweaks='ghosts'", tweaks=("ghosts",))
    refused("`tweaks` must be a tuple", tweaks="ghost_skips")
    refused("`annealed` must be", annealed=0)
    refused(r"`annealed` must be in \(0, 1\]", annealed=1.1)
    refused("`batches` must be given for 'resc", tweaks=("rescaled_initialization",))
    refused("`teacher` must be given for 'dist", tweaks=("distillation",))
    refused("`loss` must be `None` with label smoothing", loss="mse")
    refused("`activation` must be one of", activation="relu")
    refused("`teacher` must be a built", tweaks=("distillation",), teacher="dense.keras")
    refused(r"`mass` must be in \[0, 1\)", smoothing=1)


def test_teacher_can_leave_early(prepare):
    recipe = prepare(("distillation",), distilled=0.5)
    assert recipe.schedule == {"distillation": (0, 4)}
    assert [callback.end_step for callback in recipe.callbacks] == [4]


def test_tweaks_of_the_user_are_kept_if_the_recipe_is_refused(sparse):
    tweak = tfl.retrain.soft_activations(sparse)
    with pytest.raises(ValueError, match=r"must not have tweaks yet.*\['soft_activations'\]"):
        tfl.retrain.recipe(sparse, 10)
    assert list(sparse.tweaks) == [tweak]


@pytest.mark.thorough("the contract trains with all tweaks in mixed precision")
@pytest.mark.parametrize("precision", ["mixed_float16"], indirect=True)
def test_mixed_precision(precision, make_residual, images):
    model = tfl.sparsify(make_residual(), 0.5)
    model.run_eagerly = True
    arguments = {"batches": images, "teacher": make_residual(1), "rescaling_iterations": 1}
    recipe = tfl.retrain.recipe(model, 2, tweaks=tfl.retrain.TWEAKS, **arguments)
    compile_with(model, recipe)
    # The loss scale is too high at first, which skips steps.
    train(model, images, recipe.callbacks, epochs=8)
    recipe.remove()
    assert np.isfinite(outputs(model, images[0])).all()


def test_restored_weights_of_an_earlier_time_are_reported(prepare, sparse, images):
    recipe, before = prepare(("ghost_skips",)), sparse.get_weights()
    train(sparse, images, recipe.callbacks, epochs=4)
    sparse.set_weights(before)
    with pytest.raises(ValueError, match="no other callback may have restored"):
        recipe.remove()
