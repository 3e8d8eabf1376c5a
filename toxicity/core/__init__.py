"""What every room builds on: the request, the schema of the data, files, processes, errors and the console."""
