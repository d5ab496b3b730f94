"""What every other package stands on: errors, file helpers, name suggestions. Imports nothing of ours."""
