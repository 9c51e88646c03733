"""Rented GPUs: a client of RunPod's REST API v2, the Prefect worker `runpod`, and the program that runs inside a pod.

Only `account`, `worker`, `job`, `block` and `prefect_runs` import Prefect.
"""
