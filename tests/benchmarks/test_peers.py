import dataclasses
import json

import numpy as np
import pytest

from tf_lottery.experiments import methods
from tf_lottery.experiments.data import Data


class Network:
    """A model of another library: logits are the inputs times a weight."""

    def __init__(self, shift=0.0):
        self.shift = shift

    def set_weights(self, weights):
        (self.weight,) = weights

    def predict(self, x, verbose):
        return x * self.weight + self.shift


def test_gates_take_the_density_that_the_peer_reached(monkeypatch, tmp_path):
    import peer_gates_mnist as script

    from tf_lottery.experiments import training

    trained = []
    monkeypatch.setattr(
        training, "run_training", lambda _, settings, *args, **kwargs: trained.append(settings)
    )
    jobs = script.make_jobs(lambda: None, "python", 10)
    assert len({job.name for job in jobs}) == len(jobs) == 18
    peer, ours = jobs[:2]
    assert (peer.needs, ours.needs) == ((), (peer.name,))
    (tmp_path / peer.name).mkdir()
    (tmp_path / peer.name / "results.json").write_text(json.dumps({"density": 0.0321}))
    ours.train(tmp_path / ours.name)
    (settings,) = trained
    assert (settings.target_density, settings.exact_density) == (0.0321, True)
    # Three rounds and the retraining, of four epochs each.
    assert settings.epochs * settings.num_trainings == 16


@pytest.mark.parametrize("num_steps", [4580, 2000, 40])
def test_gradual_schedules_are_equal(num_steps):
    import peer_gradual as script

    settings = script.make_settings("conv-4-norms-small", "gmp_by_kernel", 0.9, num_steps)
    (pruning,) = methods.mask_updates(settings, num_steps, seed=0)
    schedule = script.make_schedule(num_steps)
    assert schedule == {
        "begin_step": pruning.schedule.begin_step,
        "end_step": pruning.schedule.end_step,
        "frequency": pruning.frequency,
    }
    assert (schedule["end_step"] - schedule["begin_step"]) % schedule["frequency"] == 0
    assert (pruning.schedule.power, pruning.scope) == (3, "layer")


def test_a_peer_gets_the_examples_and_weights_of_a_training(tmp_path):
    import peer_gates_mnist as script
    import peer_process
    import peer_trainings

    rng = np.random.default_rng(0)
    part = rng.random((12, 2, 2, 1), dtype="float32"), np.arange(12) % 3
    data, seed = Data("mine", part, part, part), 1
    settings = dataclasses.replace(script.make_settings(2), batch_size=5)
    np.savez(tmp_path / "inputs.npz", **peer_trainings._arrays(data, settings, seed))
    inputs = peer_process.Inputs(tmp_path / "inputs.npz")
    batches = data.batches(5, 2, seed)
    batches.epoch = 7
    assert inputs.order.shape == (16 * 2, 5)
    np.testing.assert_array_equal(part[1][inputs.order[7 * 2 + 1]], batches[1][1])
    assert [w.shape for w in inputs.weights] == [
        (4, 300),
        (300,),
        (300, 100),
        (100,),
        (100, 3),
        (3,),
    ]


def test_another_network_is_refused():
    import peer_process

    inputs = peer_process.Inputs.__new__(peer_process.Inputs)
    inputs.test, inputs.weights = (np.array([[1.0], [2.0]]), None), [3.0]
    inputs.logits = np.array([[3.0], [6.0]])
    inputs.start(Network())
    with pytest.raises(ValueError, match="differ by 0.5"):
        inputs.start(Network(0.5))


def test_table_pairs_seeds(monkeypatch):
    import peer_tables
    import peer_trainings
    from comparison import Case

    rows = [
        {
            **dataclasses.asdict(Case(method, 0.966)),
            "seed": seed,
            "density": 0.034 + 0.002 * seed,
            "test_accuracy": 0.97 + 0.01 * seed + gain,
        }
        for seed in (0, 1)
        for method, gain in (("pquant-ml", 0.0), ("cs", 0.004 + 0.002 * seed))
    ]
    results = peer_trainings.compare(rows, (("cs", "pquant-ml"),))
    monkeypatch.setattr(peer_tables.record, "read", lambda name: {"results": results})
    # Differences of 0.4 and 0.6 points: a deviation of 0.141, divided by the root of two.
    assert peer_tables.peer_gates_mnist().splitlines()[-1] == (
        "| 3.50% | 97.50 ± 0.71 (2) | 98.00 ± 0.85 (2) | +0.50 ± 0.10 (2) |"
    )
