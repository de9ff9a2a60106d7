"""The embeddings of any images or clouds of points: `python -m care_jax.embed` and what it is made of."""
