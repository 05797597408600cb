"""The launcher: configuration, supervision of processes, command line."""
