"""Plan -> Program -> C text and the files around it."""
