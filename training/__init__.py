"""Shared code of the classification, detection and GAN heads.

    driver.py           the run path: prepare, build, restore, train, evaluate
    garden.py           heads whose training step is a Model Garden task
    flags.py            the command line of HEAD.train
    commands.py         subcommands, and how a command ends
    config.py           experiments by name, overrides with checked types
    overrides.py        config files and overrides as text
    schedule.py         epochs and a base rate to steps and a schedule
    strategy.py         one device, several, logical CPUs, TPU
    workers.py          several processes that train together
    callbacks.py        after a loop or an evaluation: check, show, record, and
                        save the best checkpoint
    progress.py         settings of a run, then a progress bar or plain lines
    runs.py             a run's folder: reads and writes everything in it
    checkpoints.py      checkpoints: saved, and checked when they are read
    saved.py            a run's model, read from its folder and exported
    same_experiment.py  what may differ on resuming, and for a table's row
    accumulation.py     one optimizer step from several micro-batches
    average.py          averages of weights, for evaluation
    dropout_seed.py     dropout that is reproducible after resuming
    preflights.py       compiles a training step for a TPU
    iterators.py        data iterators that end without delaying a run
    images/             the data pipeline: readers, order, decoding, checks
    report/             tables of results, and which run belongs to which row

Built on the Model Garden (`official`) and tf_keras.
"""
