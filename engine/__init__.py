"""Part of Whimbrel."""
