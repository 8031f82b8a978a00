"""Data in: bar files, generated demo bars, trading sessions.

Does not belong here: how bars are stored and marked for aggregation (the database functions).
"""
