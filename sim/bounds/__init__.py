"""How good a migration could have been: bounds on the very writes that a scenario and a seed lead to."""

from __future__ import annotations

from .regret import Bounds, Regret, bounds

__all__ = ["Bounds", "Regret", "bounds"]
