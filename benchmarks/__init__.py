"""One command for each claim; results/ holds what they printed, and README's tables are made from it."""
