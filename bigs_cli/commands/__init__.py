"""One file a verb: arguments, help, and a call. Nothing heavy is imported before it is needed."""
