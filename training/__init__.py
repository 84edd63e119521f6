"""What the classification, detection and GAN heads share.

    flags.py     the command line
    config.py    experiments by name, overrides with checked keys and types
    overrides.py config files and overrides as text
    schedule.py  epochs and a base rate turned into steps and a schedule
    average.py   weights averaged over training, and evaluated
    noise.py     dropout that a resumed run repeats
    strategy.py  one device, several, logical CPUs, TPU
    progress.py  progress bar or plain lines
    watch.py     what a loop or an evaluation returns: guard, show, record
    best.py      the best checkpoint
    accumulation.py  one optimizer step from several micro-batches
    workers.py   checkpoints of workers that are not the chief, one start
    iterators.py     data iterators that end without keeping a run waiting
    runs.py      a run's folder: reader and writer of all that is in it
    same_experiment.py  what may differ where a run resumes or fills a row
    saved.py     a run's model, read from its folder
    datasets.py  the embedded digits, TFDS sets
    driver.py    one run: build, resume, train, evaluate, record
    echo.py      what a run says of itself before its first step

Built on the Model Garden (`official`) and tf_keras.
"""
