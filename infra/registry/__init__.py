"""The model registry: versions, which are sealed once, and the log of promotions, which names the champion."""
