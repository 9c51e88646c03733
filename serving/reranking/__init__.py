"""From scores to the list that is shown: business rules, diversity, and the choice of the top items."""
