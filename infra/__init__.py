"""The edge of the product: stores and downloads."""
