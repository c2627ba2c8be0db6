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


@pytest.mark.parametrize("kinds", [("ticket", "reinitialized"), ("ticket",)])
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
