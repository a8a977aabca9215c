"""Whether forgetting the song behind a track changes the track more than forgetting another one."""
