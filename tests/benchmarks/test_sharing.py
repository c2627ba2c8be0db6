import pathlib
import sys

import pytest


def finish(directory):
    directory.mkdir(parents=True)
    (directory / "results.json").write_text("{}")


def share(jobs, **kwargs):
    """Shares jobs that do nothing; returns their order, and how often a record was written."""
    import sharing

    made, written = [], []

    def train(directory):
        made.append(directory.name)
        finish(directory)

    jobs = [sharing.Job(name, train, needs) for name, needs in jobs]
    sharing.share(jobs, "runs", lambda: written.append(None), **kwargs)
    return made, len(written)


def test_a_job_waits_for_what_it_needs():
    assert share([("a", ("b",)), ("b", ()), ("c", ())]) == (["b", "a", "c"], 3)
    assert share([("a", ("b",)), ("b", ()), ("d", ("x",))]) == ([], 0)


def test_a_job_of_another_process_is_left_to_it():
    import sharing

    jobs = [("a", ()), ("b", ("a",)), ("c", ())]
    with sharing.locked(pathlib.Path("runs/a.lock")):
        assert share(jobs)[0] == ["c"]
    # A lock ends with its process, and leaves the job to the next one.
    assert share(jobs)[0] == ["a", "b"]


def test_number_of_trainings_is_bounded():
    jobs = [("a", ()), ("b", ()), ("c", ())]
    assert share(jobs, trainings=2)[0] == ["a", "b"]
    assert share(jobs, trainings=2)[0] == ["c"]
    with pytest.raises(SystemExit) as ended:
        share(jobs, trainings=2)
    assert ended.value.code == sys.modules["sharing"].NOTHING_LEFT


def test_claims_about_the_sparsest_tickets_come_first():
    import retraining
    import retraining_cifar10

    changes = dict.fromkeys([*retraining_cifar10.TWEAKS, "random_reinitialization"])
    cells = retraining._cells(changes, (5, 6), 5, retraining_cifar10.CLAIMED)
    assert cells[:2] == [("vanilla", 6, 0), ("without_ghosts", 6, 0)]
    assert len(set(cells)) == len(cells) == 2 * (4 * 5 + 5 * 3)
    assert retraining._cells(changes, (5, 6), 2, ()) == [
        (case, level, seed) for level in (6, 5) for seed in (0, 1) for case in changes
    ]


def test_retraining_needs_its_ticket(monkeypatch):
    import retraining
    import retraining_cifar10 as script

    def run_training(arrays, settings, directory, seed, verbose):
        trained.append((settings.method, settings.optimizer, directory.name))
        finish(directory)

    def retrain(arrays, settings, ticket, directory, teacher, seed, verbose):
        trained.append((settings.tweaks, settings.keep_ghosts, settings.schedule, ticket))
        finish(directory)

    trained = []
    monkeypatch.setattr(retraining, "run_training", run_training)
    monkeypatch.setattr(retraining, "run_retraining", retrain)
    monkeypatch.setattr(retraining.data, "load", lambda name, data_dir: name)
    monkeypatch.setattr(retraining.Ticket, "load", lambda path: path.name)
    monkeypatch.setattr(retraining.record, "write", lambda *_: None)
    monkeypatch.setattr(retraining, "_row", lambda *_: {})
    monkeypatch.setattr(retraining, "summarize", len)
    monkeypatch.setattr(sys, "argv", ["retraining", "--seeds", "1"])
    retraining.run_benchmark(
        "test",
        "cifar10",
        "conv-4-norms-small",
        script.BUDGET,
        {name: script.TWEAKS[name] for name in ("vanilla", "ghosts_kept")},
        (),
        levels=(5, 6),
        optimizer=script.OPTIMIZER,
    )
    assert trained == [
        ("imp", "sgd", "imp_seed_0"),
        ((), False, "cosine", "ticket_06.npz"),
        (("ghost_skips",), True, "cosine", "ticket_06.npz"),
        ((), False, "cosine", "ticket_05.npz"),
        (("ghost_skips",), True, "cosine", "ticket_05.npz"),
    ]


def test_copies_start_where_the_ticket_does(monkeypatch):
    import stability_cifar10 as script

    starts = []
    monkeypatch.setattr(script.Ticket, "load", lambda path: path.parent.parent.name)
    monkeypatch.setattr(script, "run_training", lambda _, settings, *args, **kwargs: None)
    monkeypatch.setattr(
        script,
        "run_stability",
        lambda _, settings, directory, seed, ticket, verbose: starts.append(
            (ticket, settings.rewind_to_step)
        ),
    )
    jobs = script.make_jobs(lambda: None, pathlib.Path("runs"))
    assert len({job.name for job in jobs}) == len(jobs) == 27
    for job in jobs[3:6]:
        job.train(pathlib.Path("runs") / job.name)
    assert jobs[4].needs == ("search_step_100_seed_0",)
    assert starts == [("search_step_100_seed_0", 0), (None, 100)]


def test_means_over_seeds_of_barriers():
    import stability_cifar10

    rows = [
        {"kind": kind, "step": 0, "density": 0.1, "barrier_error": b, "errors": [0.2, 0.9, 0.4]}
        for kind, b in (("ticket", 0.1), ("ticket", 0.3), ("dense", 0.2))
    ]
    first, second = stability_cifar10.summarize(rows)
    assert (first["kind"], first["seeds"], second["seeds"]) == ("ticket", 2, 1)
    assert first["error"] == pytest.approx(0.3)
    assert first["barrier_error"] == pytest.approx({"mean": 0.2, "min": 0.1, "max": 0.3})
