"""What reads and makes data: imported by a format when it is asked to."""
