"""Known bugs, put back one at a time, each of which the simulators must find."""
