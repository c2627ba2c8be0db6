import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.sparsity.groups import Group, Member
from tf_lottery.structured.prunable import prunable_groups


def names(groups):
    return [group.name for group in groups]


def test_a_group_is_left_out_if_one_of_its_kernels_is(make_model):
    model = make_model("residual")
    groups, skipped = prunable_groups(model)
    assert (names(groups), skipped) == (["stem", "inner"], {})
    groups, skipped = prunable_groups(model, exclude="outer")
    assert names(groups) == ["inner"]
    assert "selected by `exclude`" in skipped["outer/kernel"]
    assert "pruned only together with 'outer/kernel'" in skipped["stem/kernel"]
    sparse = tfl.sparsify(model, 0.5, pattern="channel", exclude="outer")
    assert list(sparse.kernels) == ["inner/kernel"]
    assert sparse.skipped["stem/kernel"] == skipped["stem/kernel"]


def test_a_group_is_pruned_if_one_of_its_kernels_is_included(make_model):
    groups, skipped = prunable_groups(make_model("residual"), include="outer")
    assert names(groups) == ["stem"]
    assert skipped == {"inner/kernel": "not selected by `include`"}


def test_groups_with_frozen_kernels_stay(make_model):
    model = make_model("residual")
    model.get_layer("outer").trainable = False
    groups, skipped = prunable_groups(model)
    assert names(groups) == ["inner"]
    assert "frozen" in skipped["outer/kernel"] and "'outer/kernel'" in skipped["stem/kernel"]


def test_given_groups_are_used(make_model, residual_groups):
    sparse = tfl.sparsify(make_model("residual"), 0.5, pattern="channel", groups=residual_groups)
    assert [g.get_config() for g in sparse.groups] == [g.get_config() for g in residual_groups]


@pytest.mark.parametrize("other", ["names", "shapes", "type", "no sequence"])
def test_groups_of_another_model_are_refused(other, make_model, residual_groups):
    groups, message = {
        "names": (tfl.channel_groups(make_model()), "hidden/kernel', which the model does not"),
        "shapes": (
            [Group("stem", 9, (Member("stem/kernel", 3, np.arange(9)[:, None]),))],
            "position 8 on axis 3 of 'stem/kernel', which has the shape",
        ),
        "type": (["stem"], "'stem', which is no `Group`"),
        "no sequence": (3, "Received: 3"),
    }[other]
    with pytest.raises(ValueError, match=f"`groups` must be channel groups of this.*{message}"):
        tfl.sparsify(make_model("residual"), pattern="channel", groups=groups)


def test_biases_behind_depthwise_kernels_are_masked_with_the_channels_that_they_pass_on():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(6, 1, name="expand")(inputs)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Dense(2, name="head")(layers.Flatten()(x))
    sparse = tfl.sparsify(keras.Model(inputs, x), 0.5, pattern="channel")
    masked = {v.path for v in (*sparse.kernels.values(), *sparse.wrapper.companions)}
    assert masked == {"expand/kernel", "expand/bias", "depthwise/bias"}
    assert sparse.sparsity == 0.5


def test_a_model_without_channels_to_prune_is_refused():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(ValueError, match="`groups` must hold at least one.*channel_groups"):
        tfl.sparsify(model, 0.5, pattern="channel")
