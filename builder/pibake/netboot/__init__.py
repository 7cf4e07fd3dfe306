"""The wire: what a board without a card is told and given, rendered from the same plan as its card."""
