"""Ctrl-C ends a run in plain words, with the shell's code for it."""

import os
import signal
import subprocess
import sys

import pytest

from tests import running
from tests.classification import small
from training import driver, runs


def test_says_how_to_go_on(tmp_path):
    display = small.Silent()
    stoppable = driver.stoppable(runs.Run(tmp_path), display)
    with pytest.raises(SystemExit) as ended, stoppable:
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert "nothing was saved yet" in display.lines[-1]
    assert "The same command resumes" in display.lines[-1]


def test_other_errors_pass(tmp_path):
    stoppable = driver.stoppable(runs.Run(tmp_path), small.Silent())
    with pytest.raises(ZeroDivisionError), stoppable:
        raise ZeroDivisionError


# As fast, and resumed: tests/classification/test_driver.py.
@pytest.mark.slow
def test_ctrl_c_at_a_run(tmp_path):
    changes = "trainer.train_steps=100000,trainer.steps_per_loop=2,"
    changes += "trainer.checkpoint_interval=2,task.model.width=0.5,"
    changes += "task.model.max_depth=1,task.train_data.global_batch_size=8"
    process = subprocess.Popen(
        [sys.executable, "-m", "classification.train"]
        + ["--experiment=digits_resnet", f"--model_dir={tmp_path}"]
        + [f"--params_override={changes}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | running.ENVIRONMENT,
        # A shell's background job is started deaf to it, and its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        running.wait_for_step(process, tmp_path, 4, seconds=120)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, (said, errors)
    assert "Traceback" not in errors
    step = runs.Run(tmp_path).step()
    assert f"saved up to step {step}" in said.splitlines()[-1]
    assert runs.Run(tmp_path).metrics()[-1]["step"] >= step
