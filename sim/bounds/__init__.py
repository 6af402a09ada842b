"""How good a migration could have been: bounds on the very writes that a scenario and a seed lead to."""
