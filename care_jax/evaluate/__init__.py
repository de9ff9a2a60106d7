"""Judging an encoder: probes, nearest neighbours, equivariance, the report; `python -m care_jax.evaluate` runs all."""
