"""One command for each claim. They write their results to results/, from which README's tables are generated."""
