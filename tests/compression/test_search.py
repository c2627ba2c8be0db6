"""The order of the search, with networks and files that are not made."""

import dataclasses
import pathlib
from types import SimpleNamespace

import pytest

from tf_lottery.compression.grid import Grid, least_bytes
from tf_lottery.compression.limits import Limits
from tf_lottery.compression.progress import Progress
from tf_lottery.compression.record import Record
from tf_lottery.compression.search import Search
from tf_lottery.export import ExportError


class Counting(Progress):
    done = 0

    def advance(self, steps):
        self.done += steps


class Stub(Search):
    """Makes nothing; every network has the accuracy that a dict says."""

    def __init__(self, task, record, accuracies, make_file):
        super().__init__(task, record, Counting(0))
        self.values, self.make_file, self.made = accuracies, make_file, []

    def _accuracy(self, network):
        if network.name not in self.values:
            raise KeyboardInterrupt
        self.made.append(network.name)
        return self.values[network.name]

    def _latencies(self, contents):
        return dict.fromkeys(contents, 0.5)

    def _measured(self, network, precision, name):
        self.made.append(name)
        path = pathlib.Path(self.record.folder / name)
        path.write_bytes(b"0")
        size = least_bytes(self._shapes, network, precision)
        accuracy = self.record.accuracies[network.name]
        file = self.make_file(path.stem, accuracy, size, structure=network.structure)
        return dataclasses.replace(file, sparsity=network.sparsity, finetuned=network.finetuned)


@pytest.fixture
def searched(make_model, make_file, tmp_path):
    """Returns a function that searches, with the dense model at 90% and a drop of 5 points.

    Its kernels have 6 * 8 + 8 * 3 = 72 weights: 288 bytes in float32, 72 in 8 bits.
    """

    def search(accuracies, limit, finetune=0, precisions=("float32",), sparsities=(0.5, 0.75, 0.9)):
        task = SimpleNamespace(
            model=make_model(),
            folder=tmp_path,
            grid=Grid.checked(("unstructured",), sparsities, precisions),
            limits=Limits({"bytes": limit}),
            finetune=finetune,
            least_accuracy=0.85,
            is_hopeless=lambda accuracy: accuracy < 0.83,
        )
        stub = Stub(task, Record(tmp_path), {"dense": 0.9, **accuracies}, make_file)
        stub.run()
        return stub

    return search


def test_stops_at_the_first_hopeless_network(searched):
    found = searched({"unstructured_50": 0.89, "unstructured_75": 0.6}, limit=1000)
    assert found.made == [
        "dense",
        "dense_float32.tflite",
        "unstructured_50",
        "unstructured_50_float32.tflite",
        "unstructured_75",
    ]
    assert found.progress.done == 4 * 2


def test_makes_no_files_whose_weights_exceed_the_budget(searched):
    found = searched({"unstructured_75": 0.88, "unstructured_90": 0.6}, limit=92)
    assert found.made == ["unstructured_75", "unstructured_75_float32.tflite", "unstructured_90"]


def test_finetunes_from_the_first_hopeless_network_on(searched):
    accuracies = {"unstructured_50": 0.89, "unstructured_75": 0.6}
    finetuned = {"unstructured_75_finetuned": 0.88, "unstructured_90_finetuned": 0.8}
    found = searched({**accuracies, **finetuned}, limit=180, finetune=2)
    assert found.made == [
        "unstructured_50",
        "unstructured_50_float32.tflite",
        "unstructured_75",
        "unstructured_75_finetuned",
        "unstructured_75_finetuned_float32.tflite",
        "unstructured_90_finetuned",
    ]


def test_finetunes_what_is_a_little_below(searched):
    # Within a standard error, so that a sparser one is tried.
    accuracies = {"unstructured_50": 0.84, "unstructured_50_finetuned": 0.8}
    found = searched(accuracies, limit=200, finetune=2, sparsities=(0.5,))
    assert "unstructured_50_finetuned" in found.made


def test_uses_up_the_budget_between_two_sparsities(searched):
    # 75% zeros take 90 bytes in float32; 100 bytes keep at most 27.8% of the weights.
    accuracies = {"unstructured_75": 0.88, "unstructured_73": 0.89, "unstructured_90": 0.6}
    found = searched(accuracies, limit=100)
    assert found.made[-2:] == ["unstructured_73", "unstructured_73_float32.tflite"]
    assert found.record.files["unstructured_73_float32.tflite"].num_bytes == 97
    assert searched(accuracies, limit=100).made == []


def test_makes_the_nearest_files_if_none_fits(searched):
    found = searched(
        {"unstructured_50": 0.89, "unstructured_75": 0.88, "unstructured_90": 0.5},
        limit=50,
        precisions=("float32", "float16"),
    )
    assert found.made == [
        "unstructured_90",
        "unstructured_90_float16.tflite",
        "unstructured_75",
        "unstructured_75_float16.tflite",
    ]


def test_makes_the_dense_file_if_there_is_no_other(searched):
    found = searched({"unstructured_90": 0.5}, limit=5, sparsities=(0.9,))
    assert found.made == ["unstructured_90", "dense", "dense_float32.tflite"]


def test_goes_on_where_it_stopped(searched):
    accuracies = {"unstructured_50": 0.89, "unstructured_75": 0.88, "unstructured_90": 0.6}
    with pytest.raises(KeyboardInterrupt):
        searched({"unstructured_50": 0.89}, limit=1000)
    found = searched(accuracies, limit=1000)
    assert found.made == ["unstructured_75", "unstructured_75_float32.tflite", "unstructured_90"]
    assert searched(accuracies, limit=1000).made == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("cannot have this precision"), "cannot have this precision"),
        (TypeError("no such argument"), "TypeError: no such argument"),
        (ExportError("It differs. Pass a larger `tolerance`.", "It differs."), "It differs."),
    ],
)
def test_notes_what_cannot_be_made(searched, monkeypatch, error, reason):
    def refuse(self, network, precision, name):
        raise error

    monkeypatch.setattr(Stub, "_measured", refuse)
    found = searched({"unstructured_50": 0.6}, limit=1000)
    assert found.record.problems == dict.fromkeys(
        ("dense_float32.tflite", "unstructured_50_float32.tflite"), reason
    )


def test_a_full_disk_is_no_problem_of_a_network(searched, monkeypatch):
    def fail(self, network):
        raise OSError("No space left")

    monkeypatch.setattr(Stub, "_accuracy", fail)
    with pytest.raises(OSError, match="No space left"):
        searched({}, limit=1000)


def test_files_keep_their_times_if_they_cannot_be_timed_together(searched, monkeypatch):
    def fail(self, contents):
        raise ExportError("crashed")

    monkeypatch.setattr(Stub, "_latencies", fail)
    found = searched({"unstructured_50": 0.6}, limit=1000)
    assert found.record.files["dense_float32.tflite"].latency_ms == 1.0
