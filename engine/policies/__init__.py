"""The policies that come with Whimbrel, a file each."""

from __future__ import annotations

from .fixed import Fixed
from .least_downtime import LeastDowntime

__all__ = ["Fixed", "LeastDowntime"]
