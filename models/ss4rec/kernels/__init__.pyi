from .scan import Backend, causal_convolution, complex_product, discretise, resolve_backend, selective_scan, time_scan
from .scan_cuda import Convolution, SelectiveScan, TimeScan
from .step import Floats, Weights, advance, products

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
    "discretise",
    "products",
    "resolve_backend",
    "selective_scan",
    "time_scan",
]
