"""The commands of the command line, as plain functions; `whimbrel.cli` gives them their names."""
