from .examples import Known
from .openapi import FOR_PEOPLE, RESPONSES, describe
from .swagger import FILES, documentation, file_content

__all__ = ["FILES", "FOR_PEOPLE", "RESPONSES", "Known", "describe", "documentation", "file_content"]
