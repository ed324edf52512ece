"""Builders of parts of a run, which `train.build` puts together."""
