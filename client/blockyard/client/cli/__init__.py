"""The command line: `blockyard …`. One module per group of commands; `app` puts them together."""
