"""Tests of the layers, in both Kerases, against the reference."""
