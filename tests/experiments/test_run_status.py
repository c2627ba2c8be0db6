import json

import numpy as np
import pytest

from tf_lottery import files
from tf_lottery.experiments.folder_lock import is_locked, locked
from tf_lottery.experiments.run_status import find_runs


def make_run(folder, **settings):
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps({"run": "train", **settings}))
    return folder


def test_where_runs_stand(tmp_path):
    (make_run(tmp_path / "done") / "results.json").write_text("{}")
    make_run(tmp_path / "new", epochs=3)
    begun = make_run(tmp_path / "begun", epochs=9)
    files.save_arrays(begun / "checkpoint.npz", "checkpoint", {"a": np.ones(2)}, {"epoch": 4})
    search = make_run(tmp_path / "search", method="cs", rounds=3)
    (search / "search").mkdir()
    progress = {"progress": {"level": 1, "epochs_done": 2}}
    files.save_arrays(search / "search" / "search.npz", "search", {}, progress)
    (search / "failures.json").write_text('{"failures": []}')
    broken = make_run(tmp_path / "broken")
    (broken / "checkpoint.npz").write_bytes(b"PK")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "settings.json").write_text('{"run": 3}')
    (make_run(tmp_path / "sweep") / "settings.json").write_text('{"run": "sweep"}')
    with locked(begun):
        found = {status.path: (status.state, status.at) for status in find_runs(tmp_path)}
    assert found.pop("broken")[0] == "damaged"
    assert found == {
        "begun": ("running", "epoch 4 of 9"),
        "done": ("finished", ""),
        "new": ("stopped", "nothing saved yet"),
        "search": ("failed", "round 1 of 3, epoch 2"),
    }
    assert not is_locked(begun)


def test_settings_that_cannot_be_read(tmp_path):
    (tmp_path / "settings.json").write_text("{ // of an editor")
    assert find_runs(tmp_path) == []
    (tmp_path / "results.json").write_text("{}")
    assert find_runs(tmp_path)[0].state == "damaged"
    with pytest.raises(OSError, match="must be a folder"):
        find_runs(tmp_path / "none")
