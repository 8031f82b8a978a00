"""Dagster: resources, jobs, ops, assets, checks, schedules, sensors, executors, tags, retention, notifications.

Does not belong here: code that works without Dagster; ops and sensors only call it.
"""
