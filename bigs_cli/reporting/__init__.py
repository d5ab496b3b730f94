"""What a person reads: console tables and progress, metrics logs, pictures, and pages about runs."""
