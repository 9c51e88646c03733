from .records import (
    KINDS,
    Agreement,
    Event,
    FirstAnswer,
    Measured,
    forget_measured,
    measured_keys,
    read_measured,
    user_number,
    write_measured,
)

__all__ = [
    "KINDS",
    "Agreement",
    "Event",
    "FirstAnswer",
    "Measured",
    "forget_measured",
    "measured_keys",
    "read_measured",
    "user_number",
    "write_measured",
]
