"""A simulated QEMU as a process of its own: QMP on its sockets, and a real connection to the other side."""
