import json

import numpy as np
import pytest

import tf_lottery_cli
from tf_lottery.experiments import devices, networks
from tf_lottery.experiments.reproductions import REPRODUCTIONS, load, make, run_reproduction
from tf_lottery.experiments.reproductions.image_stream import made_stream

GRU = "gru-rigl-75-wikitext103"


@pytest.fixture(scope="module")
def stream():
    return made_stream("imagenet2012", image_size=8, num_classes=10, count=6)


def epoch_of(batches, dataset, number):
    batches.follow_epoch().on_epoch_begin(number)
    return [(np.array(x), np.array(y)) for x, y in dataset]


def test_batches_depend_on_seed_and_epoch_only(stream):
    batches = stream.batches(2, seed=3)
    dataset = batches.for_fit()
    first, second = (epoch_of(batches, dataset, number) for number in (0, 1))
    again = stream.batches(2, seed=3)
    resumed = epoch_of(again, again.for_fit(), 1)
    assert all((x == z).all() for (x, _), (z, _) in zip(second, resumed, strict=True))
    assert not all((x == z).all() for (x, _), (z, _) in zip(first, second, strict=True))
    labels = [sorted(np.concatenate([y for _, y in epoch]).tolist()) for epoch in (first, second)]
    assert labels[0] == labels[1], "an epoch is a pass"
    other = stream.batches(2, seed=4)
    shifted = epoch_of(other, other.for_fit(), 0)
    assert not all((x == z).all() for (x, _), (z, _) in zip(second, shifted, strict=True))


def test_wide_and_narrow_crops_are_flipped_alike(stream):
    import tensorflow as tf

    ramp = np.linspace(0, 255, 32).astype("uint8")[None, :, None]
    content = tf.io.encode_jpeg(np.broadcast_to(ramp, (32, 32, 3)))
    drawn, flipped = [], []
    for index in range(60):
        seed = tf.constant([0, index], "int64")
        # The first number of a seed decides the shape of its crop.
        drawn.append(float(tf.random.stateless_uniform((), seed)) < 0.5)
        image = np.array(stream.augmented(content, 0, seed)[0])
        flipped.append(image[:, 0].mean() > image[:, -1].mean())
    assert 0.25 < np.mean(flipped) < 0.75
    assert 0.25 < np.mean(np.equal(drawn, flipped)) < 0.75


def test_images_of_the_test_are_the_middle_of_the_files(stream):
    [(x, y)] = [(np.array(x), np.array(y)) for x, y in stream.test[0]]
    assert x.shape == (6, 8, 8, 3)
    assert y.shape == (6,)
    # Pixels in [0, 1], less the mean and in units of the deviation of ImageNet.
    low = -np.divide((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    high = low + 1 / np.array((0.229, 0.224, 0.225))
    assert (x >= low - 1e-5).all()
    assert (x <= high + 1e-5).all()


def test_streams_refuse_what_they_cannot_do(stream):
    with pytest.raises(ValueError, match=r"`augment` must be \(\)"):
        stream.batches(2, augment=("flip",))
    with pytest.raises(ValueError, match="between 1 and the 6 examples. Received: batch_size=7"):
        stream.batches(7)
    with pytest.raises(ValueError, match="between 1 and the 3 batches of a pass"):
        stream.batches(2, steps_per_epoch=4)


def test_trainings_have_the_settings_of_the_papers():
    rigl, longer = REPRODUCTIONS["resnet-50-rigl-80"], REPRODUCTIONS["resnet-50-rigl-80-5x"]
    assert rigl.steps == pytest.approx(32_000, rel=0.01)
    assert rigl.settings.end_step == pytest.approx(25_000, rel=0.01)
    assert (longer.steps, longer.settings.end_step) == (
        5 * rigl.steps,
        5 * rigl.settings.end_step,
    )
    # Ten times the penalty of 1e-4, which acts through a momentum of 0.9.
    assert rigl.settings.weight_decay == 1e-3
    rate = rigl.settings.schedule_of(rigl.steps)
    passes = [float(rate(round(p / 102 * rigl.steps))) for p in (2.5, 10, 50, 80, 95)]
    assert passes == pytest.approx([0.8, 1.6, 0.16, 0.016, 0.0016], rel=0.01)
    ticket = REPRODUCTIONS["resnet-18-ticket-cifar100"].settings
    assert ticket.rate == pytest.approx(0.2)
    # Fifteen levels after the first training, and the retraining.
    assert REPRODUCTIONS["resnet-18-ticket-cifar100"].total_steps == 17 * 182 * 351
    tiny = REPRODUCTIONS["resnet-18-ticket-tiny_imagenet"]
    # 90,000 images in batches of 128, and the weights after 33 of 182 passes.
    assert (tiny.steps, tiny.settings.rewind_to_step) == (182 * 703, 33 * 703)
    assert all(one.settings.model in networks.MODELS for one in REPRODUCTIONS.values())


def test_missing_data_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="must be the folder of .*wiki.train.tokens"):
        load(REPRODUCTIONS[GRU], tmp_path)
    imagenet = REPRODUCTIONS["resnet-50-cs-90"]
    with pytest.raises(FileNotFoundError, match=f"'imagenet2012'; .*Received: {tmp_path}"):
        load(imagenet, str(tmp_path))

    def refuse(self):
        raise AssertionError("Manual directory does not exist")

    tfds = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", refuse)
    with pytest.raises(FileNotFoundError, match="by hand: https://.*/imagenet2012. Received: "):
        load(imagenet, str(tmp_path), download=True)


def test_wikitext_is_read_from_its_files(tmp_path):
    for name in ("train", "valid", "test"):
        (tmp_path / f"wiki.{name}.tokens").write_bytes(bytes(range(251)))
    found = load(REPRODUCTIONS[GRU], tmp_path)
    assert (found.input_shape, found.num_classes, len(found.train[0])) == ((100,), 256, 2)
    assert found.test[1][0, :3].tolist() == [1, 2, 3]
    (tmp_path / "wiki.test.tokens").write_bytes(bytes(1999))
    assert len(load(REPRODUCTIONS[GRU], tmp_path).test[0]) == 16, "for eight accelerators"


@pytest.mark.thorough("the example of `run_reproduction` trains the same")
def test_a_training_runs_on_made_examples_and_is_resumed(tmp_path, capsys):
    command = ["reproduce", GRU, "--synthetic", "--steps", "2", "--batch-size", "2", "--json"]
    command += ["--out", str(tmp_path / "run")]
    assert tf_lottery_cli.main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["found"]["inference_flops"] == pytest.approx(0.25, abs=0.01)
    assert report["results"]["density"] == pytest.approx(0.25, abs=1e-3)
    assert tf_lottery_cli.main(command) == 0
    assert json.loads(capsys.readouterr().out) == report, "a finished run is not trained again"


def test_accelerators_share_the_batches_of_a_trial(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(devices, "count_devices", lambda: 3)
    command = ["reproduce", GRU, "--synthetic", "--steps", "1", "--out", str(tmp_path)]
    assert tf_lottery_cli.main([*command, "--batch-size", "4"]) == 2
    assert "must be a multiple of 3" in capsys.readouterr().err


def test_trainings_are_listed_and_typing_errors_named(capsys):
    assert tf_lottery_cli.main(["reproduce"]) == 0
    listed = capsys.readouterr().out
    assert "resnet-50-rigl-80" in listed
    assert "75.1%" in listed
    assert tf_lottery_cli.main(["reproduce", "resnet-50-rigl-8", "--synthetic"]) == 2
    assert "did you mean resnet-50-rigl-80" in capsys.readouterr().err
    assert tf_lottery_cli.main(["reproduce", GRU, "--steps", "3"]) == 2
    assert "--steps is an option of --synthetic" in capsys.readouterr().err
    assert tf_lottery_cli.main(["reproduce", GRU, "--synthetic", "--data-dir", "/data"]) == 2
    assert "Received: --synthetic --data-dir" in capsys.readouterr().err


@pytest.mark.thorough("the language model runs in the quick tier, and the streams are tested there")
@pytest.mark.parametrize(
    "name",
    [
        "resnet-50-rigl-80",
        "mobilenet-v1-rigl-75",
        "resnet-50-cs-90",
        "resnet-18-ticket-cifar100",
        "resnet-18-ticket-tiny_imagenet",
        GRU,
    ],
)
def test_trainings_of_every_kind_run_end_to_end(name, tmp_path):
    chosen = REPRODUCTIONS[name].shortened(batch_size=2, steps=2)
    data = make(chosen, count=4, image_size=32)
    report = run_reproduction(chosen, data, tmp_path, verbose=0)
    # Not the loss of the test: after two steps the moving statistics normalize nothing yet.
    history = report["results"]["history"]
    for training in history if isinstance(history, list) else [history]:
        assert np.isfinite(training.get("logs", training)["loss"]).all()
    if "megabytes" in report["published"]:
        expected = report["published"]["megabytes"]
        assert report["found"]["megabytes"] == pytest.approx(expected, abs=0.03)
    if name == "resnet-18-ticket-tiny_imagenet":
        # 11,173,962 with the 10 classes of CIFAR-10.
        assert report["found"]["parameters"] == 11_173_962 + 190 * (512 + 1)
