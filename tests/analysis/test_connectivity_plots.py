import dataclasses

import pytest

from tf_lottery.analysis.connectivity import Connectivity
from tf_lottery.analysis.connectivity_plots import plot_connectivity

RESULT = Connectivity([0.0, 0.5, 1.0], [1.0, 4.0, 2.0], [0.1, 0.5, 0.12])


@pytest.fixture
def drawn(monkeypatch):
    """Records the lines, bands and labels of axes that are drawn."""
    from matplotlib.axes import Axes

    calls = {"plot": [], "fill_between": [], "set_ylabel": []}
    for name, found in calls.items():
        original = getattr(Axes, name)

        def spy(axis, *args, original=original, found=found, **kwargs):
            found.append((args, kwargs))
            return original(axis, *args, **kwargs)

        monkeypatch.setattr(Axes, name, spy)
    return calls


def test_one_line_a_result(tmp_path, drawn):
    plot_connectivity({"dense": RESULT, "ticket": RESULT}, tmp_path / "x.png", title="LeNet")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    labels = [kwargs["label"] for _, kwargs in drawn["plot"]]
    assert labels == [
        "dense: barrier 2.500",
        "ticket: barrier 2.500",
        "dense: barrier 39.00 points",
        "ticket: barrier 39.00 points",
    ]
    alphas, errors = drawn["plot"][2][0][:2]
    assert alphas == [0.0, 0.5, 1.0] and errors.tolist() == pytest.approx([10, 50, 12])
    assert not drawn["fill_between"]


def test_replicates_are_mean_and_range(tmp_path, drawn):
    other = dataclasses.replace(RESULT, losses=[3.0, 4.0, 2.0])
    plot_connectivity({"dense": [RESULT, other]}, tmp_path / "x.svg")
    assert drawn["plot"][0][0][1].tolist() == [2.0, 4.0, 2.0]
    assert drawn["plot"][0][1]["label"] == "dense: barrier 2.000"
    _, low, high = drawn["fill_between"][0][0]
    assert (low.tolist(), high.tolist()) == ([1.0, 4.0, 2.0], [3.0, 4.0, 2.0])


def test_without_errors_there_is_one_panel(tmp_path, drawn):
    plot_connectivity({"a": dataclasses.replace(RESULT, errors=None)}, tmp_path / "x.png")
    assert [args for args, _ in drawn["set_ylabel"]] == [("Loss",)]


def test_leaves_pyplot_alone(tmp_path):
    import matplotlib.pyplot as plt

    before = plt.get_fignums(), plt.get_backend()
    plot_connectivity({"a": RESULT}, tmp_path / "x.png")
    assert (plt.get_fignums(), plt.get_backend()) == before


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(ValueError, match="`results` must hold at least one result"):
        plot_connectivity({}, tmp_path / "x.png")
    short = Connectivity([0.0, 1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"`results\['a'\]` .* same points. Received: \[2, 3\]"):
        plot_connectivity({"a": [RESULT, short]}, tmp_path / "x.png")
    with pytest.raises(OSError, match="missing"):
        plot_connectivity({"a": RESULT}, tmp_path / "missing" / "x.png")
