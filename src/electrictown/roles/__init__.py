"""The four roles of the town: mayor, polecat, witness, refinery."""
