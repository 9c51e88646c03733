"""What a retraining came to, for a person who looks once: three answers, and a summary of one page.

The questions are: was the challenger promoted and why, is the data all right, and what did it cost. The Prefect UI and the terminal
give the same answers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
