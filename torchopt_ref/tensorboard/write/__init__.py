"""What leaves the monitor: event files, sinks, the dashboard, and the folder of a run."""
