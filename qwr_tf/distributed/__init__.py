"""Many collectors, one learner, and Ray between them."""
