"""How nearly augmentations rotate the embeddings of any encoder: `python -m care_jax.measure`, and its parts."""
