"""Being written by a colleague right now (the lead split the work at 00:11): leave this file to them."""
