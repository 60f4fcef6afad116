"""Many collectors, one learner, and a Reverb server between them."""
