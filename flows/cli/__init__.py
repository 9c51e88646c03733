"""The command line: one module a group of commands, which load settings and call a flow or a plain function."""
