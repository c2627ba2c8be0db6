import pytest


def test_front_has_what_no_other_file_beats(make_file, make_result):
    files = [
        make_file("large", 0.90, 300),
        make_file("small", 0.88, 100),
        make_file("worse", 0.87, 150),
        make_file("as_small", 0.88, 100),
    ]
    assert [f.name for f in make_result(files).front] == [
        "small.tflite",
        "as_small.tflite",
        "large.tflite",
    ]


def test_takes_the_cheapest_within_a_standard_error(make_file, make_result):
    files = [
        make_file("best", 0.900, 190),
        make_file("alike", 0.896, 150),
        make_file("cheaper", 0.890, 100),
        make_file("over", 0.900, 201),
        make_file("inaccurate", 0.879, 50),
    ]
    result = make_result(files)
    assert [f.name for f in result.fitting] == ["best.tflite", "alike.tflite", "cheaper.tflite"]
    assert result.best.name == "alike.tflite" and result.path == "runs/alike.tflite"
    assert result.recommendation.startswith(
        "Take alike.tflite: 150 of 200 bytes, 89.60% accurate, 0.40 points below the model; "
        "of 3 files that meet what was asked, the cheapest within a standard error (0.50 points)"
    )


def test_nearest_if_no_file_meets_the_budget(make_file, make_result):
    files = [make_file("large", 0.89, 240), make_file("small", 0.70, 100)]
    result = make_result(files)
    assert result.best is None and result.path is None
    assert result.recommendation == (
        "No file has at most 200 bytes and loses at most 2 points. Nearest to the budget is "
        "large.tflite: 240 of 200 bytes, 20% over, 89.00% accurate, 1.00 points below the model. "
        "Within the budget, small.tflite loses least: 70.00% accurate, 20.00 points below the "
        "model."
    )
    with pytest.raises(ValueError, match="No file has"):
        result.save("model.tflite")


def test_printed(make_file, make_result):
    result = make_result([make_file("a", 0.9, 150, flops=None)], stopped="interrupted")
    text = str(result)
    assert "90.00%" in text and "best" in text and "Ended early: interrupted" in text
    assert result.to_dict()["best"] == "a.tflite"


def test_problems_are_printed(make_file, make_result):
    result = make_result([make_file("a", 0.9, 150)])
    result.problems.update({"4x1_50": "no block\nof 4", "channel_50": "no group"})
    assert "Not made: 4x1_50 and 1 more (`problems`): no block of 4" in str(result)


def test_a_drop_as_large_as_asked_is_accurate(make_file, make_result):
    # 0.9 - 0.02 is above 0.88 in floats.
    file = make_file("a", 0.88, 150)
    assert 0.9 - 0.02 >= 0.88 and make_result([file]).is_accurate(file)


def test_plot(make_file, make_result, tmp_path):
    pytest.importorskip("matplotlib")
    make_result([make_file("a", 0.9, 150), make_file("b", 0.8, 90)]).plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0
