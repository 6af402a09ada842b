"""The convergence laboratory: policies × workloads × links × seeds, simulated or on real QEMUs, and how far each is
from the best that is possible.
"""
