import keras
import numpy as np
import pytest

from tf_lottery.experiments import batches


def batches_of(epochs, **kwargs):
    x = np.arange(10)
    shuffled = batches.ShuffledBatches(x, x, batch_size=3, **kwargs)
    follow = shuffled.follow_epoch()
    found = []
    for epoch in epochs:
        follow.on_epoch_begin(epoch)
        found.append([shuffled[i][0].tolist() for i in range(len(shuffled))])
    return found


def test_order_depends_on_seed_and_epoch_alone():
    in_order = batches_of([0, 1, 2, 3])
    assert batches_of([2]) == [in_order[2]]
    assert batches_of([3, 1]) == [in_order[3], in_order[1]]
    assert in_order[0] != in_order[1]
    assert batches_of([0], seed=1) != [in_order[0]]


def test_a_pass_has_every_example_at_most_once():
    for epoch in batches_of([0, 1]):
        flat = sum(epoch, [])
        assert len(flat) == 9 == len(set(flat))


def test_epochs_cut_one_stream():
    stream = sum(batches_of(range(6)), [])
    assert sum(batches_of(range(9), steps_per_epoch=2), []) == stream
    assert sum(batches_of(range(2), steps_per_epoch=9), []) == stream


def test_follow_epoch_in_fit():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    shuffled = batches.ShuffledBatches(np.ones((6, 1)), np.ones((6, 1)), batch_size=2)
    callbacks = [shuffled.follow_epoch()]
    model.fit(shuffled, epochs=3, shuffle=False, callbacks=callbacks, verbose=0)
    assert shuffled.epoch == 2


@pytest.mark.parametrize("batch_size", [0, 11])
def test_batch_size_out_of_range(batch_size):
    with pytest.raises(ValueError, match=f"between 1 and the 10 .*batch_size={batch_size}"):
        batches.ShuffledBatches(np.arange(10), np.arange(10), batch_size)


def test_a_flip_exchanges_left_and_right_in_half_of_the_images():
    images = np.random.default_rng(0).random((200, 3, 4, 2))
    changed = batches.augmented(images, ("flip",), np.random.default_rng(1))
    kept = (changed == images).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(changed[~kept], images[~kept, :, ::-1])
    assert 70 < kept.sum() < 130


def test_a_shift_fills_with_zeros():
    # An eighth of 16 rows is 2, so that one bright pixel moves by up to 2 in each direction.
    images = np.zeros((300, 16, 16, 1))
    images[:, 8, 1] = 1.0
    changed = batches.augmented(images, ("shift",), np.random.default_rng(0))
    assert changed.shape == images.shape
    places = [tuple(np.argwhere(image[..., 0])[0]) for image in changed if image.any()]
    assert {row for row, _ in places} == {6, 7, 8, 9, 10}
    # Two to the left of column 1 is outside.
    assert {column for _, column in places} == {0, 1, 2, 3}
    assert 30 < sum(not image.any() for image in changed) < 90


def test_augmented_batches_depend_on_seed_and_pass_alone():
    x, y = np.random.default_rng(0).random((8, 8, 8, 1)), np.arange(8)

    def epochs(augment=("flip", "shift")):
        shuffled = batches.ShuffledBatches(x, y, 8, seed=3, augment=augment)
        for epoch in (0, 1):
            shuffled.epoch = epoch
            images, labels = shuffled[0]
            yield images[np.argsort(labels)]

    first, second = epochs()
    for again, expected in zip(epochs(), (first, second), strict=True):
        np.testing.assert_array_equal(again, expected)
    assert not np.array_equal(first, second) and not np.array_equal(first, x)
    np.testing.assert_array_equal(next(epochs(())), x)


@pytest.mark.parametrize("augment", ["flip", ("flop",)])
def test_unknown_augmentation(augment):
    with pytest.raises(ValueError, match="`augment` must be"):
        batches.ShuffledBatches(np.arange(4), np.arange(4), 2, augment=augment)


def test_augmentation_of_other_inputs_than_images():
    with pytest.raises(ValueError, match=r"`augment` must be \(\) unless.*shape \(3,\)"):
        batches.ShuffledBatches(np.zeros((4, 3)), np.arange(4), 2, augment=("flip",))
