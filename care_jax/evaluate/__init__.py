"""Judging an encoder: probes, nearest neighbours, equivariance, and the report. `python -m care_jax.evaluate` runs it."""
