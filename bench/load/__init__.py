"""Many large uploads at once and many polls a second: what is accepted, how long polls take, what memory does."""
