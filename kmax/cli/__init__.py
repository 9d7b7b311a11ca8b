"""The commands: they parse arguments, call the package and print results."""
