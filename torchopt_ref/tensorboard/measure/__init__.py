"""What is measured of a training: a file for each quantity."""
