"""A real S3 server for tests: the one that the local stack starts."""

from infra.local_stack.radosgw import PROGRAMS, RadosGateway, radosgw

__all__ = ["PROGRAMS", "RadosGateway", "radosgw"]
