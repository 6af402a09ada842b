"""QEMU as a model: its migration thread, its states and its words, as versions 7.2, 10.0 and 11.1 have them."""
