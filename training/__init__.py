"""What the classification, detection and GAN heads share.

    driver.py           the run path: prepare, build, restore, train, evaluate
    garden.py           a head whose training step is a Model Garden task
    flags.py            the command line of HEAD.train
    commands.py         subcommands, and how a command ends
    config.py           experiments by name, overrides with checked types
    overrides.py        config files and overrides as text
    schedule.py         epochs and a base rate turned into steps, a schedule
    strategy.py         one device, several, logical CPUs, TPU
    workers.py          several processes that train together
    callbacks.py        after a loop or an evaluation: check, show, record
    summary.py          what a run says before its first step
    progress.py         progress bar or plain lines
    runs.py             a run's folder: reader and writer of all in it
    checkpoints.py      checkpoints: saved, and checked when they are read
    best_checkpoint.py  the best checkpoint
    saved.py            a run's model, read from its folder
    export.py           what the exports of all heads share
    same_experiment.py  what may differ where a run resumes or fills a row
    accumulation.py     one optimizer step from several micro-batches
    average.py          weights averaged over training, and evaluated
    dropout_seed.py     dropout that a resumed run repeats
    preflights.py       a training step compiled for a TPU
    iterators.py        data iterators that end without delaying a run
    images/             one data path: readers, order, decoding, checks
    report/             tables of results, and which run fills which row

Built on the Model Garden (`official`) and tf_keras.
"""
