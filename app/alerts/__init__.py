"""Alerts: when the influence of a song, or of a holder's or an artist's songs, passes a threshold, an event says so."""
