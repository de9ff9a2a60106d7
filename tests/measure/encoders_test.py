"""The encoder of a run is the one that its evaluation has, and sees what that sees."""

import numpy as np
import pytest

from care_jax import trained
from care_jax.embed import image_set
from care_jax.measure import encoders, images


@pytest.mark.slow
@pytest.mark.parametrize("what", encoders.WHAT)
def test_clouds_are_embedded_as_an_evaluation_does(saved_clouds, what):
    model = trained.load(saved_clouds.workdir)
    there, side = images.of_run(model.config, None, "test")
    assert side is None
    encoder = encoders.of_run(model, model.config, what=what, batch_size=16)
    assert encoder.clouds and encoder.image_size is None
    drawn = images.draw(there, encoder, num_images=7, seed=0, side=side)
    assert drawn.side == 0 and len(drawn.rows) == 7
    ((clouds, kept),) = drawn.batches(7)
    embedded = image_set.make_embedder(model, model.config, there.skipped)(model.encoder_variables, there.examples)
    expected = embedded.embeddings if what == "embeddings" else embedded.features.numpy()
    assert kept.all()
    np.testing.assert_allclose(encoder.embed(clouds), expected[drawn.rows], atol=1e-5)
