"""What every other room builds on: arguments, column names, files, processes, errors and the console."""
