from .model import RecBoleModel
from .ncf import neumf
from .spec import SPEC, RecBoleSettings
from .ss4rec import SS4RecForRecBole

__all__ = ["SPEC", "RecBoleModel", "RecBoleSettings", "SS4RecForRecBole", "neumf"]
