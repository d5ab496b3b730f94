"""What a person reads: console tables and progress, metrics logs."""
