"""Hypothesis on small shared machines: examples may take their time, and each run looks for new ones."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("tally", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("tally")
