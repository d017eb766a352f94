"""Plans of every operation: `candidates(operation, spec, limits, alignment)`."""
