"""The machine under a measurement: processes, disks, counters, environment."""
