"""What builds the site in docs/: reference pages from the code, and pictures of the product. The product imports nothing of it."""
