"""Sensors: another tick after a run while tasks are due, a rerun of failed tasks, release of leases, alerts.

Each sensor reads the current state, not events: if one evaluation fails because the daemon or the database was down,
the next one finds the same work.

Does not belong here: the text of a notification and how it is sent (orchestration/notifications).
"""
