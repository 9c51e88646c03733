"""The edge of the product: object stores, downloads, locks, pages for people, the Prefect server and RunPod.

What talks to another system, or to the file system on behalf of several processes, belongs here. It knows nothing of datasets,
models and decisions, and raises the errors of `configs.errors`.
"""
