"""The values that pass between the parts: Graph, Nest, Plan, Program. They import nothing above."""
