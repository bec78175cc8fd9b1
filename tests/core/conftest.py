"""Hypothesis without a deadline for one example: on a busy machine the first one pays for imports and tables."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
