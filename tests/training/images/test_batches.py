"""The order of examples: once an epoch, resumed anywhere, shared by hosts."""

import collections
import itertools
import json
import os

import numpy as np
import pytest
import tensorflow as tf

from training.images import batches, readers, records
from training.images.order import Order, Share


def _write(folder, counts, size=1):
    """TFRecord files of some numbers of records, numbered over all."""
    first, shards = 0, []
    for index, count in enumerate(counts):
        path = str(folder / f"data-{index:02d}")
        with tf.io.TFRecordWriter(path) as writer:
            for number in range(first, first + count):
                writer.write(f"{number:05d}".encode().ljust(size, b"."))
        first += count
        shards.append(readers.Shard(path, count))
    return readers.Shards(tuple(shards), _parse)


def _parse(serialized):
    number = tf.strings.substr(serialized, 0, 5)
    return (tf.strings.to_number(number, tf.int64),)


def _decode(number, value, *name):
    return number, value


def _contexts(pipelines, replicas=None):
    replicas = replicas or pipelines
    return [
        tf.distribute.InputContext(pipelines, index, replicas)
        for index in range(pipelines)
    ]


def _steps(reader, order, steps, start=0, pipelines=1):
    """[steps, batch] of (numbers, values), the pipelines' parts joined."""
    parts = []
    for context in _contexts(pipelines):
        stream = batches.training(reader, _decode, order, start, context)
        found = list(stream.take(steps).as_numpy_iterator())
        parts.append([np.stack(pair) for pair in found])
    return [np.concatenate(step, axis=1) for step in zip(*parts)]


SHARDS = {
    "equal": [6] * 8,
    "unequal": [1, 9, 4, 7, 0, 13, 2, 3],
    "one": [23],
    "prime": [3, 5, 2, 4, 6, 1, 7],
}
ORDER = Order(seed=3, batch=8, buffer=16)


# With as many shards as the batch has lanes, and with one lane only.
_SLOW = ("equal", "prime")
READERS = ["memory", *SHARDS]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(n, marks=pytest.mark.slow if n in _SLOW else ())
        for n in READERS
    ],
)
def reader(request, tmp_path_factory):
    if request.param == "memory":
        return readers.Indexed(45)
    return _write(tmp_path_factory.mktemp("shards"), SHARDS[request.param])


@pytest.fixture(scope="module")
def whole(reader):
    """The steps of four epochs, read by one host."""
    return _steps(reader, ORDER, -(-4 * reader.examples // 8))


def test_every_example_comes_once_an_epoch_in_another_order(reader, whole):
    examples, steps = reader.examples, whole
    numbers, values = np.concatenate(steps, axis=1)
    np.testing.assert_array_equal(numbers, range(numbers.size))
    epochs = [
        values[k * examples : (k + 1) * examples].tolist() for k in range(4)
    ]
    for epoch in epochs:
        assert sorted(epoch) == list(range(examples))
    assert len(set(map(tuple, epochs))) == 4
    other = _steps(reader, Order(4, 8, 16), 2)
    assert not np.array_equal(other, steps[:2])


@pytest.mark.parametrize(
    "start", [5, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 17))]
)
def test_a_later_start_is_the_rest_of_the_run(reader, whole, start):
    if start + 4 > len(whole):
        whole = _steps(reader, ORDER, start + 4)
    tf.random.set_seed(5)  # Of no consequence.
    np.testing.assert_array_equal(
        _steps(reader, ORDER, 4, start), whole[start : start + 4]
    )


_QUICK = {("memory", 4, 2), ("unequal", 4, 2)}


@pytest.mark.parametrize(
    "reader, pipelines, start",
    [
        pytest.param(*case, marks=() if case in _QUICK else pytest.mark.slow)
        for case in itertools.product(READERS, (2, 4, 8), (0, 2, 6))
    ],
    indirect=["reader"],
)
def test_batches_do_not_depend_on_the_number_of_hosts(
    reader, whole, pipelines, start
):
    # The same at the same place, so that a replica's are the same too; and as
    # many hosts, and others, resume. The start is in test_data.py as well.
    shared = _steps(reader, ORDER, 9 - start, start, pipelines)
    np.testing.assert_array_equal(shared, whole[start:9])


@pytest.mark.parametrize(
    "pipelines", [2, pytest.param(8, marks=pytest.mark.slow)]
)
def test_each_host_opens_its_own_shards(tmp_path, pipelines):
    reader = _write(tmp_path, SHARDS["equal"])  # 48 records, 6 batches.
    seen = collections.Counter()
    for pipeline in range(pipelines):
        share = Share(pipelines, pipeline)
        elements = reader.training(ORDER, 0, share).take(48 // pipelines)
        opened = {file.numpy() for _, file, _ in elements}
        assert len(opened) == 8 // pipelines
        seen.update(opened)
    assert len(seen) == 8 and set(seen.values()) == {1}


def _bytes_read():
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


@pytest.mark.parametrize(
    "pipelines", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4))]
)
def test_each_host_reads_its_part_of_the_bytes(tmp_path, pipelines):
    size, epochs = 20_000, 8
    reader = _write(tmp_path, [12] * 8, size)
    whole = 12 * 8 * size
    for evaluates in (False, True):
        shares = []
        for context in _contexts(pipelines):
            before = _bytes_read()
            if evaluates:
                stream = batches.evaluation(reader, _decode, 8, context)
            else:
                stream = batches.training(reader, _decode, ORDER, 0, context)
                stream = stream.take(12 * epochs)
            for _ in stream:
                pass
            shares.append((_bytes_read() - before) / (whole / pipelines))
        # Training reads ahead, some of these small epochs; a host that read
        # what is not its own would read twice as much or more.
        passes, most = (1, 1.1) if evaluates else (epochs, 1.5)
        assert 0.95 * passes < min(shares) <= max(shares) < most * passes


def test_fewer_shards_than_hosts_are_read_by_all_and_said_once(
    tmp_path, capsys
):
    reader = _write(tmp_path, [10, 11])
    order = Order(0, 4)
    shared = _steps(reader, order, 3, pipelines=4)
    np.testing.assert_array_equal(shared, _steps(reader, order, 3))
    reader.training(order, 0, Share(4, 1))
    said = capsys.readouterr().out
    assert said.count("Each of 4 hosts reads all of the training data") == 1
    assert "2 shards and a batch of 4" in said


def test_lanes_suit_the_usual_numbers_of_hosts():
    def lanes(shards, batch):
        one = readers.Shards((readers.Shard("x", 1),) * shards, _parse)
        return one.lanes(batch)

    assert lanes(1024, 4096) == 128
    assert lanes(1024, 256) == 128
    assert lanes(1000, 1000) == 100
    assert lanes(32, 64) == 32
    assert lanes(12, 8) == 4
    assert lanes(7, 8) == lanes(1, 8) == 1


@pytest.mark.parametrize("pipelines", [1, 4])
def test_an_evaluation_has_every_example_once(reader, pipelines):
    found, counts = collections.Counter(), set()
    for context in _contexts(pipelines):
        stream = list(batches.evaluation(reader, _decode, 8, context))
        counts.add(len(stream))
        for numbers, values in stream:
            assert numbers.shape == (8 // pipelines,)
            found.update(values.numpy()[numbers.numpy() < reader.examples])
    assert counts == {-(-reader.examples // 8)}
    assert sorted(found) == list(range(reader.examples))
    assert set(found.values()) == {1}


def test_replicas_of_one_host_share_a_batch_in_order(reader, whole):
    context = tf.distribute.InputContext(1, 0, 4)
    stream = batches.training(reader, _decode, ORDER, 0, context)
    parts = [np.stack(x) for x in stream.take(8).as_numpy_iterator()]
    np.testing.assert_array_equal(
        np.concatenate(parts, 1), np.concatenate(whole[:2], 1)
    )


def test_a_batch_must_divide_among_hosts():
    with pytest.raises(ValueError, match=r"batch_size=8, input pip.*=3"):
        _steps(readers.Indexed(9), ORDER, 1, pipelines=3)


def test_a_shard_that_shrinks_or_vanishes_is_an_error(tmp_path):
    reader = _write(tmp_path, [5, 5])
    _write(tmp_path, [5, 4])
    with pytest.raises(tf.errors.OpError, match="elements"):
        _steps(reader, ORDER, 3)
    (tmp_path / "data-01").unlink()
    with pytest.raises(tf.errors.NotFoundError, match="data-01"):
        _steps(reader, ORDER, 3)


def test_counts_are_kept_beside_the_files(tmp_path, monkeypatch):
    paths = [s.path for s in _write(tmp_path, [3, 0, 5]).shards]
    assert records.counts(paths) == [3, 0, 5]
    (written,) = records.write_counts(paths)
    assert written == f"{tmp_path}/{records.COUNTS_FILE}"
    counted = []
    plain = records.count
    monkeypatch.setattr(
        records, "count", lambda path: counted.append(path) or plain(path)
    )
    assert records.counts(paths) == [3, 0, 5] and not counted
    _write(tmp_path, [3, 1, 5])  # Another size: counted again.
    assert records.counts(paths) == [3, 1, 5]
    assert counted == [paths[1]]
    # Those of other data sets of the folder stay, and a bare name has one too.
    monkeypatch.chdir(tmp_path)
    names = [os.path.basename(path) for path in paths]
    records.write_counts(names[2:])
    records.write_counts(names[:2])
    counted.clear()
    assert records.counts(names) == [3, 1, 5] and not counted
    for broken in ("{", "[]", json.dumps({"data-00": "x"})):
        (tmp_path / records.COUNTS_FILE).write_text(broken)
        with pytest.raises(ValueError, match=r"record_counts\.json"):
            records.counts(paths)
