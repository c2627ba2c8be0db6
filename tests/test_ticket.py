import keras
import numpy as np
import pytest

import tf_lottery as tfl

pytestmark = pytest.mark.backend


@pytest.fixture
def ticket(make_model):
    sparse = tfl.sparsify(make_model())
    start = tfl.Snapshot(sparse)
    tfl.prune(sparse, 0.5)
    return tfl.Ticket.from_model(sparse, start.weights, level=3, provenance={"rate": 0.2})


def test_keeps_masks_and_unmasked_weights(ticket, make_model):
    assert (ticket.level, ticket.density) == (3, 0.5)
    assert ticket.provenance["rate"] == 0.2
    assert ticket.provenance["backend"] == keras.backend.backend()
    assert ticket.provenance["pattern"] == "unstructured"
    for path, weight in zip(ticket.weights, make_model().weights, strict=True):
        np.testing.assert_array_equal(ticket.weights[path], weight)


def test_file_keeps_everything_in_bits(ticket, tmp_path):
    ticket.save(tmp_path / "ticket.npz")
    loaded = tfl.Ticket.load(tmp_path / "ticket.npz")
    assert (loaded.level, loaded.provenance) == (ticket.level, ticket.provenance)
    for path, mask in ticket.masks.items():
        assert loaded.masks[path].dtype == bool
        np.testing.assert_array_equal(loaded.masks[path], mask)
    for path, weight in ticket.weights.items():
        np.testing.assert_array_equal(loaded.weights[path], weight)
    with np.load(tmp_path / "ticket.npz", allow_pickle=False) as file:
        assert file["mask/0"].nbytes == 6 * 8 / 8


def test_weights_that_are_not_finite_are_not_saved(ticket, tmp_path):
    path = next(iter(ticket.weights))
    ticket.weights[path] = np.full_like(ticket.weights[path], np.nan)
    with pytest.raises(ValueError, match=f"finite weights.*Received.*{path}"):
        ticket.save(tmp_path / "ticket.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["dense", "nested", "recurrent_deep", "attention", "subclassed"])
def test_applies_to_another_instance(kind, make_model, make_data):
    sparse = tfl.sparsify(make_model(kind), sparsity=0.5)
    ticket = tfl.Ticket.from_model(sparse)
    other = tfl.sparsify(make_model(kind))
    for weight in other.model.weights:
        weight.assign(weight + 1.0)
    match = ticket.apply(other)
    assert match.unmatched == {}
    assert len(match.matched) == len(other.model.weights)
    assert other.density == sparse.density
    np.testing.assert_array_equal(other(make_data(kind)[0]), sparse(make_data(kind)[0]))


def test_masks_alone_keep_the_other_weights(ticket, make_model):
    other = tfl.sparsify(make_model())
    for weight in other.model.weights:
        weight.assign(weight + 1.0)
    ticket.apply(other, weights=False)
    assert other.density == 0.5
    for path, kernel in other.get_kernels().items():
        start = make_model().get_layer(path.split("/")[-2]).kernel
        expected = (keras.ops.convert_to_numpy(start) + 1.0) * other.get_masks()[path]
        np.testing.assert_array_equal(kernel, expected)


def test_another_head_is_listed(ticket, make_model):
    model = make_model()
    head = keras.layers.Dense(7, name="output")
    other = tfl.sparsify(keras.Sequential([keras.Input((6,)), model.layers[0], head]))
    with pytest.warns(
        UserWarning,
        match=r"1 of the 2 kernels of .*output/kernel': .has shape \(8, 7\) here and \(8, 3\)",
    ) as warned:
        match = ticket.apply(other)
    assert sum("fitted in part" in str(warning.message) for warning in warned) == 1
    assert sorted(path.split("/")[-2] for path in match.matched) == ["hidden", "hidden"]
    reasons = {path.split("/", 1)[1]: reason for path, reason in match.unmatched.items()}
    assert "output/kernel" in reasons
    assert other.get_masks()[list(other.kernels)[1]].all()


def test_kernel_that_is_not_pruned_in_the_model_is_listed(ticket, make_model):
    other = tfl.sparsify(make_model(), exclude="output")
    with pytest.warns(UserWarning, match="1 of the 1 kernels of .*is not pruned in the model"):
        reasons = ticket.apply(other).unmatched
    assert [path.split("/")[-2] for path in reasons] == ["output"]


def test_automatic_numbers_in_names_do_not_matter():
    def make():
        return tfl.sparsify(
            keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(4) for _ in range(3))]), 0.5
        )

    first, second = make(), make()
    assert set(first.kernels).isdisjoint(second.kernels)
    match = tfl.Ticket.from_model(first).apply(second)
    assert match.unmatched == {}
    for a, b in zip(first.get_kernels().values(), second.get_kernels().values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_loaded_model_has_the_same_kernels(ticket, make_model, tmp_path):
    make_model().save(tmp_path / "plain.keras")
    other = tfl.sparsify(keras.saving.load_model(tmp_path / "plain.keras"))
    assert ticket.apply(other).unmatched == {}
    assert other.density == ticket.density


def test_overlap_is_intersection_over_union():
    def ticket(*mask):
        return tfl.Ticket({"a/kernel": np.array(mask, bool)}, {})

    assert ticket(1, 1, 0, 0).overlap(ticket(1, 1, 0, 0)) == 1.0
    assert ticket(1, 1, 0, 0).overlap(ticket(0, 0, 1, 1)) == 0.0
    assert ticket(1, 1, 0, 0).overlap(ticket(0, 1, 1, 0)) == pytest.approx(1 / 3)


def test_unrelated_models_are_refused_and_unchanged(ticket, make_model):
    other = tfl.sparsify(make_model("nested"))
    with pytest.raises(ValueError, match="must share a kernel with the ticket.*Received"):
        ticket.apply(other)
    assert other.density == 1.0
    with pytest.raises(ValueError, match="`other` must share a kernel"):
        ticket.overlap(tfl.Ticket.from_model(other))


@pytest.mark.parametrize(
    "masks", [{}, {3: np.ones(2, bool)}, {"a": [True]}, {"a": np.ones(2)}, {"a": np.ones(3, bool)}]
)
def test_masks_that_are_none_are_refused(masks):
    with pytest.raises(ValueError, match="`masks.* must .*Received"):
        tfl.Ticket(masks, {"a": np.ones(2)})


def test_plain_model_is_refused(ticket, make_model):
    with pytest.raises(ValueError, match="`model` must be a `SparseModel`"):
        ticket.apply(make_model())


def test_files_that_are_no_tickets_are_refused(ticket, tmp_path):
    tfl.Snapshot(tfl.sparsify(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]))).save(
        tmp_path / "snapshot.npz"
    )
    with pytest.raises(ValueError, match="must be a ticket file.*a snapshot file"):
        tfl.Ticket.load(tmp_path / "snapshot.npz")
    with pytest.raises(FileNotFoundError):
        tfl.Ticket.load(tmp_path / "missing.npz")
    with pytest.raises(FileNotFoundError, match="must be in a writable folder.*Received"):
        ticket.save(tmp_path / "missing" / "ticket.npz")
