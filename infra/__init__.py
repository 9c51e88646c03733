"""The edge of the product: stores, downloads, Prefect and RunPod."""
