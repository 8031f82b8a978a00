"""Markets in pure Python: timeframes and windows, trading calendars and sessions.

Does not belong here: anything that reads or writes a database, a file or Dagster.
"""
