"""What every other package stands on: errors, faults of the machine, files, the hub's client, several processes.

Imports nothing of ours.
"""
