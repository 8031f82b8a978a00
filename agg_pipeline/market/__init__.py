"""Markets in pure Python: timeframes and windows, trading calendars and sessions, names of symbols.

Does not belong here: anything that reads or writes a database, a file or Dagster.
"""
