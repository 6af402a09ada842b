"""Every interleaving of faults: the real protocol against abstract QEMUs."""
