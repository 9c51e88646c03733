from .ncf import neumf
from .sequential import RecBoleSequential, SequentialSettings
from .ss4rec import SS4RecForRecBole

__all__ = ["RecBoleSequential", "SS4RecForRecBole", "SequentialSettings", "neumf"]
