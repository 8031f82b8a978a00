"""A tick without Dagster: selection and execution of tasks, their outcomes, metrics of a run, backfill of a range.

Does not belong here: Dagster (orchestration), and what a bar contains (the database functions).
"""
