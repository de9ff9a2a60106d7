"""The embeddings of any images, with a trained encoder: `python -m care_jax.embed` and what it is made of."""
