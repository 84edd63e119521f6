"""Metrics of generated images, with their provenance.

    moments.py    mean and covariance in one pass
    frechet.py    the Frechet distance of two sets of features
    kernel.py     the kernel distance, unbiased
    score.py      the class ("Inception") score in one pass
    extractor.py  features and logits of images, by a Keras classifier
    inception.py  the same by the 2015 Inception network, from a local file
    classifier.py a small classifier, trained on a run's own data
    measure.py    all of these for a set of images; two sets compared
    reference.py  stored statistics with their provenance

Everything but the extractor is NumPy in float64 on the host. Only the distance
on the 2015 Inception network's features is called FID.
"""
