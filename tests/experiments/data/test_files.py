import gzip

import pytest

from tf_lottery.experiments.data.files import read_idx


@pytest.mark.parametrize("missing", [1, 12])
def test_a_truncated_file_is_refused(tmp_path, missing):
    content = gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
    (tmp_path / "labels.gz").write_bytes(content[:-missing])
    with pytest.raises(ValueError, match="`path` must be an IDX file"):
        read_idx(tmp_path / "labels.gz")
