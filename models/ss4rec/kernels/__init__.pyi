from .loss import catalogue_cross_entropy, gbce, sampled_softmax
from .scan import Backend, causal_convolution, complex_product, discretise, resolve_backend, selective_scan, time_scan
from .scan_cuda import Convolution, SelectiveScan, TimeScan
from .segments import Segments
from .step import Floats, Weights, advance, products

__all__ = [
    "Backend",
    "Convolution",
    "Floats",
    "Segments",
    "SelectiveScan",
    "TimeScan",
    "Weights",
    "advance",
    "catalogue_cross_entropy",
    "causal_convolution",
    "complex_product",
    "discretise",
    "gbce",
    "products",
    "resolve_backend",
    "sampled_softmax",
    "selective_scan",
    "time_scan",
]
