"""Durations in words, as one would say them."""

from SSLFewShotSlicer.translation import _


def in_words(seconds):
    """ "8 s", "3 min", "2 h 5 min" of a number of seconds."""
    seconds = max(0, round(seconds))
    if seconds < 90:
        return _("{seconds} s").format(seconds=max(1, seconds))
    minutes = round(seconds / 60)
    if minutes < 90:
        return _("{minutes} min").format(minutes=minutes)
    return _("{hours} h {minutes} min").format(hours=minutes // 60, minutes=minutes % 60)
