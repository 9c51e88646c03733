"""NCF (He et al. 2017), the baseline."""
