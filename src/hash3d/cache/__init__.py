"""The method: the grid, the table, the aggregation, and when to reuse. Imports torch and nothing of ours."""
