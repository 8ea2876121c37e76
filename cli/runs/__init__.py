"""Commands for runs: start, quote, list, show, wait, decide, copy images."""
