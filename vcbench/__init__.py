"""vcbench: variance components, said once and fitted by every method."""
