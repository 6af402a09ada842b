"""The place of the simulator: the same machine and the same policies, in virtual time. There is nothing in it yet."""
