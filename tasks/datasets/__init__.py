"""Dataset versions in the store: written once, named by their content, read back, verified and removed."""
