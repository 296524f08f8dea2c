"""Speed: cases, timers, what they are held against, and the least possible times."""
