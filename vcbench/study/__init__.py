"""Studies: specification, generators, running, storing, measuring, and holding to account."""
