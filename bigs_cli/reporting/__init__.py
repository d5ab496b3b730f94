"""Output for people: console tables and progress, metrics logs and loggers, plots, and HTML reports of runs."""
