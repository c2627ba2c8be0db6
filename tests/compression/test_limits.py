import pytest

from tf_lottery.compression.limits import Limits


def test_excess_is_that_of_the_tightest_limit(make_file):
    file = make_file("a", 0.9, num_bytes=100, latency_ms=3.0, flops=50.0)
    assert Limits({"bytes": 200}).excess(file) == 0.5
    assert Limits({"bytes": 200, "milliseconds": 2}).excess(file) == 1.5
    assert (
        Limits({"flops": 100, "bytes": 1000}).describe(file)
        == "50 of 100 flops, 100 of 1,000 bytes"
    )


@pytest.mark.parametrize("budget", [{}, 200, {"byte": 200}, {"bytes": 0}, {"bytes": "200kB"}])
def test_refused(budget):
    with pytest.raises(ValueError, match="Argument `budget"):
        Limits.checked(budget)
