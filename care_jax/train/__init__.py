"""Training: the state, one step, checkpoints and the loop around them."""
