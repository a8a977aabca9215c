"""What a month owes to whom: shares added up by holder, closed once, corrected by later lines and never edited."""
