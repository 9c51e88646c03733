"""The training loop that all models share: optimizer, early stopping, checkpoints, several GPUs, CUDA graphs."""
