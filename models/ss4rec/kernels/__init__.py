"""The numerical kernels of SS4Rec: scans over segments, a step of the recurrence, and the loss, on CPU and GPU."""
