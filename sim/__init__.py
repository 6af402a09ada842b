"""The deterministic world: the real protocol against modelled QEMUs, through every interleaving of faults."""
