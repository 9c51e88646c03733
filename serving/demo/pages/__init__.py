"""The pages of the demo, one module each."""
