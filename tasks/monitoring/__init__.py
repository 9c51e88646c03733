"""Monitoring: drift of the events and live quality of the champion."""
