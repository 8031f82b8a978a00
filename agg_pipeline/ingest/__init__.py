"""Input of data: bar files, generated demo bars, trading sessions.

Does not belong here: how bars are stored and windows are invalidated (the database functions).
"""
