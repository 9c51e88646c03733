"""One flow for each deployment; each reads as the story of its stages."""
