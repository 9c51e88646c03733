"""Builds the images of infra/docker with Docker or buildah, and measures what they contain.

A build needs no daemon: buildah and mmdebstrap are Debian packages that run as root.
"""
