"""Says what is installed here, what will not work, and the way out.

    python -m evonorm_tf.doctor

Prints versions, devices and the known conflicts between the packages that
this project stands on. It ends with 1 where there is a conflict, else 0.
TensorFlow is imported in a process of its own: a broken one may take its
process along.
"""
