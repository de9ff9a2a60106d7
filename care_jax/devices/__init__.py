"""Devices and processes: where arrays live, and how the processes of a run start, agree and end together."""
