"""Four speeds of the search, compared with their goals.

    python -m benchmarks.search --data_dir=DIR [--json FILE]
    python -m benchmarks.search --dataset=digits

    filters      random graphs per second through the cheap filters, one core;
                 and with drawing, duplicates and fingerprints
    candidates   per hour that pass the cheap filters and go through the
                 100-step quality test, every anchor, one worker per core
    journal      durable results per second: one transaction each, synced to
                 disk
    start        seconds of a training of one step: tracing, starting, and one
                 validation, so an upper bound of what a candidate costs before
                 it trains

The last is the mean over random candidates on the first anchor. Run it on an
idle machine; on a busy one only the CPU time in the JSON can be compared.
"""

import argparse
import os
import pathlib
import tempfile
import time
from typing import Any

import tensorflow as tf

from benchmarks import record
from evonorm_tf import graphs
from evonorm_tf.search import data, filters, proxy, space, stages
from evonorm_tf.search import settings as settings_lib
from evonorm_tf.search.evolution import Evolution
from evonorm_tf.search.journal import Journal
from evonorm_tf.search.settings import Settings
from evonorm_tf.search.stages import Outcome, Task
from evonorm_tf.search.worker import LocalPool

Row = dict[str, Any]


def _row(name: str, value: float, goal: float, least: bool = True) -> Row:
    met = value >= goal if least else value <= goal
    return {"speed": name, "value": value, "goal": goal, "met": met}


def filters_a_second(settings: Settings, count: int) -> list[Row]:
    """Measures filters alone, and everything for drawing a new graph."""
    rng = space.generator(settings.seed, 0)
    where = space.get(settings.space)
    drawn = [space.random_graph(rng, where) for _ in range(count)]
    start = time.perf_counter()
    for graph in drawn:
        if filters.structural(graph, settings.cheap) is None:
            filters.numeric(graph, settings.cheap)
    alone = count / (time.perf_counter() - start)
    evolution, seen, trial = Evolution(settings), 0, 0
    start = time.perf_counter()
    while seen < count:
        proposal = evolution.ask(trial)
        seen += 1 + sum(proposal.rejected.values())
        trial += 1
    whole = seen / (time.perf_counter() - start)
    name = "random graphs/s, drawn, filtered, compared with all before"
    return [_row("filters, graphs/s", alone, 20_000), _row(name, whole, 0)]


def candidates_an_hour(settings: Settings, count: int) -> list[Row]:
    """Measures the quality test on random graphs that pass the filters."""
    pool, evolution = LocalPool(settings), Evolution(settings)
    quality = [n for n in stages.names(settings) if n.startswith("quality/")]
    try:
        # Every worker imports TensorFlow and trains once before it counts.
        workers = pool.free
        for number in range(workers):
            graph = evolution.ask(number).graph
            pool.submit(Task(number, quality[0], graph.text()))
        ended = 0
        while ended < workers:
            ended += len(pool.wait(1.0))
        start, number, cpu, ended, passed = time.perf_counter(), 0, 0.0, 0, 0
        while ended < count:
            while pool.free > 0 and number < count:
                graph = evolution.ask(workers + number).graph
                pool.submit(Task(number, quality[0], graph.text()))
                number += 1
            for outcome in pool.wait(1.0):
                cpu += outcome.cpu
                task = outcome.task
                rejected = stages.objection(outcome, settings)
                if rejected or task.stage == quality[-1]:
                    ended, passed = ended + 1, passed + (not rejected)
                    continue
                following = quality[quality.index(task.stage) + 1]
                pool.submit(task._replace(stage=following))
        rate = 3600 * count / (time.perf_counter() - start)
    finally:
        pool.close()
    row = _row(f"candidates/h, {workers} workers", rate, 6000)
    return [{**row, "passed": passed, "of": count, "cpu_s": cpu / count}]


def results_a_second(settings: Settings, folder: str, count: int) -> list[Row]:
    """Measures transactions with one result each, in a folder on a disk."""
    result = {"accuracy": 0.5, "loss": 1.0, "steps": 100, "early": 1.5}
    with tempfile.TemporaryDirectory(dir=folder) as where:
        journal = Journal(where, settings.identity())
        proposal = Evolution(settings).ask(0)
        journal.propose(0, proposal)
        start = time.perf_counter()
        for number in range(count):
            task = Task(0, f"quality/{number}", "")
            journal.record(Outcome(task, result, "", 1.0), "", last=False)
        rate = count / (time.perf_counter() - start)
        journal.close()
    return [_row("journal, results/s", rate, 150)]


def start_of_a_candidate(settings: Settings, count: int) -> list[Row]:
    """Measures the mean time of a training of one step, in this process."""
    proxy.configure_process()
    task = proxy.Proxy(settings, data.load(settings))
    evolution, seconds, cpu = Evolution(settings), [], []
    for number in range(count + 1):
        row = graphs.row(evolution.ask(number).graph)
        start, busy = time.perf_counter(), time.process_time()
        task.train(row, settings.anchors[0], 1)
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - busy)
    # The first training also starts TensorFlow.
    mean, cpu = (sum(part[1:]) / count for part in (seconds, cpu))
    row = _row("start of a candidate, s", mean, 1.0, least=False)
    return [{**row, "cpu_s": cpu}]


def main() -> None:
    """Measures, prints and records."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=pathlib.Path, help="write rows to FILE")
    parser.add_argument("--data_dir", default="~/tensorflow_datasets")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument(
        "--folder", default=".", help="folder on the disk to be measured"
    )
    args = parser.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    tf.get_logger().setLevel("ERROR")
    size = {"image_size": 0, "validation": 300}
    settings = settings_lib.make(
        {"data_dir": args.data_dir, "dataset": args.dataset},
        {"algorithm": "random"},
        size if args.dataset == "digits" else {},
    )
    rows = filters_a_second(settings, 20_000)
    rows += results_a_second(settings, args.folder, 500)
    # Workers run before this process starts TensorFlow's threads.
    rows += candidates_an_hour(settings, args.candidates)
    rows += start_of_a_candidate(settings, 20)
    for row in rows:
        goal = f"goal {row['goal']:g}" if row["goal"] else ""
        print(f"{row['speed']:60s}{row['value']:12,.2f}  {goal}")
    record.finish(rows, args.json)


if __name__ == "__main__":
    main()
