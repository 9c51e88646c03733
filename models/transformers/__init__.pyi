from .esasrec import ESASRec, ESASRecNetwork
from .gsasrec import GSASRec
from .hstu import HSTU, HSTUNetwork
from .lrurec import LRURec, LRURecNetwork
from .sasrec import SASRec, SASRecNetwork
from .spec import ESASREC, GSASREC, HSTU_SPEC, LRUREC, SASREC

__all__ = [
    "ESASREC",
    "GSASREC",
    "HSTU",
    "HSTU_SPEC",
    "LRUREC",
    "SASREC",
    "ESASRec",
    "ESASRecNetwork",
    "GSASRec",
    "HSTUNetwork",
    "LRURec",
    "LRURecNetwork",
    "SASRec",
    "SASRecNetwork",
]
