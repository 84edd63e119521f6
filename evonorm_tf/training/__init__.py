"""What the classification, detection and GAN heads share.

    flags.py     the command line
    config.py    experiments by name, overrides with checked keys and types
    schedule.py  epochs and a base rate turned into steps and a schedule
    strategy.py  one device, several, logical CPUs, TPU
    progress.py  progress bar or plain lines, metrics.jsonl
    record.py    what a run leaves behind, and the guard of its weights
    datasets.py  the embedded digits, TFDS sets
    driver.py    one run: build, resume, train, evaluate, record

Built on the Model Garden (`official`) and tf_keras.
"""
