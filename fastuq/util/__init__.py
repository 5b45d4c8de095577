"""What every package may use: files, checks of arguments, the process, progress."""
