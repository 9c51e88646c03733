from .parameters import with_form
from .run_form import RunForm, first_sentence

__all__ = ["RunForm", "first_sentence", "with_form"]
