"""Dead letters: corrected, replayed, discarded, one or many."""
