"""Output for people: console tables and progress, metrics logs and trackers, plots, and HTML reports of runs."""
