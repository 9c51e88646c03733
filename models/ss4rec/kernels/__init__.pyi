from .layers_cuda import Part, RelationLayer, TimeLayer
from .matrices import dense, packed, products
from .residual_cuda import AddAndNormalise, add_and_normalise
from .scan import Backend, causal_convolution, complex_product, discretise, resolve_backend, selective_scan, time_scan
from .scan_cuda import Convolution, SelectiveScan, TimeScan
from .step import Floats, Weights, advance

__all__ = [
    "AddAndNormalise",
    "Backend",
    "Convolution",
    "Floats",
    "Part",
    "RelationLayer",
    "SelectiveScan",
    "TimeLayer",
    "TimeScan",
    "Weights",
    "add_and_normalise",
    "advance",
    "causal_convolution",
    "complex_product",
    "dense",
    "discretise",
    "packed",
    "products",
    "resolve_backend",
    "selective_scan",
    "time_scan",
]
