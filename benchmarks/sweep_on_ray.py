"""A sweep of 12 runs on a Ray cluster of two nodes, one of which is killed in the middle.

    python benchmarks/sweep_on_ray.py

Both nodes are on this machine, each a raylet with a CPU. When three runs are finished, all
processes of one node are killed with their runs; a new node takes its place. What it should show:
the lost runs are tried again, resume, and the sweep ends with the table of one that was trained
here without interruption. Needs the extra `sweep`. About three minutes on one CPU core.
"""

import json
import os
import pathlib
import tempfile
import time

import record

from tf_lottery.experiments.run_status import find_runs
from tf_lottery.experiments.sweeps import Sweep, run_sweep

# A busy machine is slow to start nodes and to answer, and not lost.
SLOW = {
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_worker_niceness": "0",
}

SPEC = {
    "dataset": "digits",
    "method": ["static", "rigl", "imp"],
    "sparsity": [0.8, 0.9],
    "seed": [0, 1],
    "epochs": 5,
    "batch_size": 100,
    "levels": 2,
}
# Finished runs after which a node is killed.
KILL_AFTER = 3
LONGEST_WAIT = 60


def wait_for_two(folder):
    """Waits until the runs of both nodes have saved an epoch, and returns how far they are."""
    latest, found = time.monotonic() + LONGEST_WAIT, {}
    while len(found) < 2 and time.monotonic() < latest:
        time.sleep(0.02)
        running = [status for status in find_runs(folder) if status.state == "running"]
        found = {status.path: status.at for status in running if "epoch" in status.at}
    return found


def main():
    """Compares the tables of both sweeps and records them."""
    os.environ.update(SLOW)
    from ray.cluster_utils import Cluster

    sweep = Sweep.from_dict(SPEC)
    with tempfile.TemporaryDirectory() as folder:
        here = run_sweep(sweep, pathlib.Path(folder, "here"))
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        outcomes, killed, begin = [], {}, time.monotonic()
        second = cluster.add_node(num_cpus=1)

        def on_run(run, outcome, message):
            outcomes.append({"run": run.name, "outcome": outcome, "message": message[:200]})
            print(f"{time.monotonic() - begin:.0f} s: {run.name}: {outcome} {message[:200]}")
            finished = [one["run"] for one in outcomes if one["outcome"] == "finished"]
            if outcome == "finished" and len(finished) == KILL_AFTER:
                killed.update(wait_for_two(folder))
                cluster.remove_node(second, allow_graceful=False)
                cluster.add_node(num_cpus=1)

        there = run_sweep(
            sweep, pathlib.Path(folder, "there"), address=cluster.address, on_run=on_run
        )
        cluster.shutdown()
    is_same = json.dumps(there.to_dict()) == json.dumps(here.to_dict())
    results = {
        "same_table": is_same,
        "runs": len(there.rows),
        "running_when_killed": killed,
        "tried_again": sum(one["outcome"] == "again" for one in outcomes),
        "outcomes": outcomes,
        "summary": there.summary(),
    }
    record.write("sweep_on_ray", {"spec": SPEC, "nodes": 2, "kill_after": KILL_AFTER}, results)
    print(there)
    print({name: results[name] for name in ("same_table", "running_when_killed", "tried_again")})


if __name__ == "__main__":
    main()
