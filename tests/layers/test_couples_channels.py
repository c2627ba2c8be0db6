import keras
import numpy as np
import pytest
from keras import ops

import tf_lottery as tfl
from tf_lottery.layers import Gates, Masked
from tf_lottery.layers.companion_masks import CompanionMasks

STEM, INNER = np.array([1, 0, 0, 1], bool), np.array([0, 1, 1, 0, 1, 1], bool)
COMPANIONS = {
    "outer/bias": STEM,
    "stem_norm/gamma": STEM,
    "stem_norm/beta": STEM,
    "outer_norm/gamma": STEM,
    "outer_norm/beta": STEM,
    "inner/bias": INNER,
    "inner_norm/beta": INNER,
    "inner_norm/moving_mean": INNER,
}


def column_masks(model):
    """Masks of all kernels that prune two channels of each group."""
    kept = {"stem/kernel": STEM, "outer/kernel": STEM, "inner/kernel": INNER}
    return {key: np.broadcast_to(kept[key], k.shape).copy() for key, k in model.kernels.items()}


def dead_outputs(model, x):
    """The largest magnitude of the dead channels behind each of the norms."""
    inner = model.model
    names = {"stem_norm": STEM, "inner_norm": INNER, "outer_norm": STEM}
    outputs = [inner.get_layer(name).output for name in names]
    with model.settled():
        found = keras.Model(inner.inputs, outputs)(x)
    pairs = zip(found, names.values(), strict=True)
    return [float(np.abs(ops.convert_to_numpy(y)[..., ~kept]).max()) for y, kept in pairs]


def values_of(model):
    return {weight.path: ops.convert_to_numpy(weight).copy() for weight in model.model.weights}


def test_the_kernels_are_those_of_the_groups(make_coupled):
    model = make_coupled()
    assert list(model.kernels) == ["stem/kernel", "inner/kernel", "outer/kernel"]
    assert list(model.skipped) == ["head/kernel"]
    assert [group.name for group in model.groups] == ["stem", "inner"]
    assert [part.name for part in model.parts] == ["masks", "companion_masks"]
    assert model.prunable_names() == ["stem", "inner"]
    assert model.prunable_names(tfl.sparsity.NM(2, 4)) == list(model.kernels)


@pytest.mark.backend
def test_pruned_channels_are_zero_behind_every_norm(make_coupled, make_data):
    model = make_coupled()
    x, _ = make_data("residual")
    before = values_of(model)
    model.set_masks(column_masks(model))
    outputs = ops.convert_to_numpy(model(x))
    assert dead_outputs(model, x) == [0.0, 0.0, 0.0]
    for path, value in values_of(model).items():
        kept = COMPANIONS.get(path)
        if path in model.kernels:
            kept = column_masks(model)[path]
        np.testing.assert_array_equal(value, before[path] * (True if kept is None else kept))
    # The stored values do not matter, only the masks do.
    for path, variable in model.named_weights.items():
        if path in COMPANIONS or path in model.kernels:
            variable.assign(before[path])
    np.testing.assert_array_equal(ops.convert_to_numpy(model(x)), outputs)
    with model.settled() as plain:
        np.testing.assert_allclose(ops.convert_to_numpy(plain(x)), outputs, atol=1e-6)
    assert values_of(model)["inner/bias"].all()
    assert tfl.strip(model) is model.model
    np.testing.assert_array_equal(values_of(model)["inner/bias"] != 0, INNER)


def test_a_channel_lives_while_any_weight_of_its_kernels_does(make_coupled):
    model = make_coupled()
    masks = column_masks(model)
    masks["outer/kernel"][0, 0, 3, 1] = True
    model.set_masks(masks)
    np.testing.assert_array_equal(model.kept_channels()["stem"], [True, True, False, True])
    kept = model.find_part(CompanionMasks).kept()
    expected = {**COMPANIONS, **dict.fromkeys(list(COMPANIONS)[:5], np.array([1, 1, 0, 1], bool))}
    paths = [companion.path for companion in model.wrapper.companions]
    for path, mask in zip(paths, kept, strict=True):
        np.testing.assert_array_equal(mask, expected[path])
    assert set(paths) == set(COMPANIONS)


def test_training_leaves_pruned_channels_alone(make_coupled, make_data, compile_model):
    model = compile_model(make_coupled(), keras.optimizers.AdamW(0.1))
    model.set_masks(column_masks(model))
    x, y = make_data("residual")
    model.fit(x, y, epochs=2, batch_size=8, verbose=0)
    assert dead_outputs(model, x) == [0.0, 0.0, 0.0]
    moved = values_of(model)
    assert all(
        moved[path][mask].all() and not moved[path][~mask].any()
        for path, mask in COMPANIONS.items()
    )


def test_groups_survive_saving(make_coupled, make_data, tmp_path):
    model = make_coupled(tfl.sparsity.Channel(round_to=2))
    model.set_masks(column_masks(model))
    model.save(tmp_path / "sparse.keras")
    loaded = keras.saving.load_model(tmp_path / "sparse.keras")
    x, _ = make_data("residual")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)
    assert loaded.pattern == tfl.sparsity.Channel(round_to=2)
    assert [g.get_config() for g in loaded.groups] == [g.get_config() for g in model.groups]
    assert list(loaded.skipped) == ["head/kernel"]
    for masks in (loaded.find_part(CompanionMasks).kept(), model.find_part(CompanionMasks).kept()):
        assert sum(np.count_nonzero(~mask) for mask in masks) == 16
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert clone.kept_channels()["stem"].tolist() == STEM.tolist()


def test_snapshots_and_tickets(make_coupled, make_data):
    model, other = make_coupled(), make_coupled()
    start = tfl.Snapshot(model)
    model.set_masks(column_masks(model))
    pruned, ticket = tfl.Snapshot(model), tfl.Ticket.from_model(model, start.weights)
    assert set(ticket.masks) == set(model.kernels)
    start.restore(model)
    assert all(mask.all() for mask in model.find_part(CompanionMasks).kept())
    pruned.restore(model)
    ticket.apply(other)
    x, _ = make_data("residual")
    np.testing.assert_array_equal(other.predict(x, verbose=0), model.predict(x, verbose=0))


def test_what_does_not_suit_groups_is_refused(make_model, residual_groups, make_coupled):
    with pytest.raises(ValueError, match="`groups` must be `None` unless .*Received: 2 groups"):
        Masked(make_model("residual"), groups=residual_groups)
    with pytest.raises(ValueError, match="`groups` must hold at least one.*Received: groups=None"):
        tfl.SparseModel(make_model("residual"), pattern="channel")
    with pytest.raises(ValueError, match="`groups` must have paths of weights.*'stem/kernel'"):
        tfl.SparseModel(make_model(), pattern="channel", groups=residual_groups)
    with pytest.raises(ValueError, match="`pattern` must be 'unstructured' with Gates"):
        Masked(make_model("residual"), pattern="channel", selection=Gates(), groups=residual_groups)
    with pytest.raises(ValueError, match="`pattern` must be 'unstructured' with Gates"):
        tfl.sparsify(make_model("residual"), pattern="channel", gate=tfl.SoftGate())
    model = make_coupled()
    model.model.get_layer("inner").enable_lora(2)
    with pytest.raises(ValueError, match="'inner' got LoRA adapters"):
        model.set_masks({})
