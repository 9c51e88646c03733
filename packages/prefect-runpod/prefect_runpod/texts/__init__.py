"""Texts that leave the process: addresses that a pod can use, secrets that must not show, and words that a page shows as written."""
