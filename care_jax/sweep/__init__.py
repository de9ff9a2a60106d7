"""Many runs: a grid of settings, or the rows of a table, times seeds; made once, several at a time, and summed up."""
