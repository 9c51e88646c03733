"""RunPod's REST API: a client that keeps to its limits, what it returns, and what can go wrong."""
