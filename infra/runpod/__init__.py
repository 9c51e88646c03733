"""Rented GPUs: a client of RunPod's REST API v2, the Prefect worker `runpod`, and what runs inside a pod.

Only `worker`, `job`, `block` and `prefect_runs` import Prefect.
"""
