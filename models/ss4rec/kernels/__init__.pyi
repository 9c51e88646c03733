from .matrices import dense, packed, products
from .scan import Backend, causal_convolution, complex_product, discretise, resolve_backend, selective_scan, time_scan
from .scan_cuda import Convolution, SelectiveScan, TimeScan
from .step import Floats, Weights, advance

__all__ = [
    "Backend",
    "Convolution",
    "Floats",
    "SelectiveScan",
    "TimeScan",
    "Weights",
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
