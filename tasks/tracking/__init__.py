"""Records of a run for Weights & Biases. Tracking never fails or delays a run."""
