import numpy as np
import pytest

from tf_lottery.analysis import plots


def make_rows(kinds=("ticket", "reinitialized"), replicates=2, levels=15):
    return [
        {
            "kind": kind,
            "level": level,
            "density": 0.8**level,
            "iteration": 100 * level + replicate,
            "test_accuracy": 0.9 - 0.01 * level - 0.001 * replicate,
        }
        for replicate in range(replicates)
        for kind in kinds
        for level in range(levels)
    ]


@pytest.mark.parametrize("kinds", [plots.LABELS, ("ticket", "reinitialized"), ("ticket",)])
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_writes_a_picture(tmp_path, kinds, suffix):
    path = tmp_path / f"lottery.{suffix}"
    plots.plot_lottery(make_rows(kinds), path, title="LeNet")
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG") if suffix == "png" else b"<svg" in content


def test_leaves_pyplot_alone(tmp_path):
    import matplotlib.pyplot as plt

    before = plt.get_fignums(), plt.get_backend()
    plots.plot_lottery(make_rows(), tmp_path / "lottery.png")
    assert (plt.get_fignums(), plt.get_backend()) == before


def test_missing_folder(tmp_path):
    with pytest.raises(OSError, match="missing"):
        plots.plot_lottery(make_rows(), tmp_path / "missing" / "lottery.png")


BEFORE = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [1, 1, 1]], bool)
AFTER = np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0], [1, 1, 1]], bool)


def test_connections_per_pixel():
    def count(mask, shape):
        return plots.connections_per_pixel("mask", mask, shape).tolist()

    assert count(BEFORE, (2, 2)) == [[1, 2], [2, 3]]
    assert count(AFTER, (2, 2, 1)) == [[0, 3], [0, 3]]
    assert count(BEFORE, (1, 2, 2)) == [[3, 5]]


def test_input_connections_share_one_scale(tmp_path, monkeypatch):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    drawn, titles, texts = [], [], []
    imshow, set_title = Axes.imshow, Axes.set_title
    monkeypatch.setattr(
        Axes, "imshow", lambda *a, **k: drawn.append((a[1].tolist(), k)) or imshow(*a, **k)
    )
    monkeypatch.setattr(
        Axes, "set_title", lambda *a, **k: titles.append(a[1]) or set_title(*a, **k)
    )
    monkeypatch.setattr(Figure, "suptitle", lambda self, text: texts.append(text))
    path = tmp_path / "pixels.png"
    plots.plot_input_connections(BEFORE, AFTER, path, image_shape=(2, 2), title="LeNet")
    assert path.read_bytes().startswith(b"\x89PNG")
    scale = {"vmin": 0, "vmax": 3}
    assert drawn == [([[1, 2], [2, 3]], scale), ([[0, 3], [0, 3]], scale)]
    assert titles == [
        "before training: 0% of pixels unused",
        "after training: 50% of pixels unused",
    ]
    assert texts == ["LeNet"]


@pytest.mark.parametrize("shape", [(5, 3), (3, 3, 1, 4), (4,)])
def test_masks_that_are_no_image(tmp_path, shape):
    for name, masks in {
        "before": (np.ones(shape), AFTER),
        "after": (BEFORE, np.ones(shape)),
    }.items():
        with pytest.raises(
            ValueError, match=rf"`{name}` .* \(4, units\), .*\(2, 2\). Received: .*"
        ):
            plots.plot_input_connections(*masks, tmp_path / "x.png", image_shape=(2, 2))
    assert not list(tmp_path.iterdir())
