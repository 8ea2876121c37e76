"""How deeply JSON is nested, told without recursion: what nests without end must not break the one who measures it."""

from pydantic import JsonValue


def measure_depth(value: JsonValue) -> int:
    """Levels of a JSON value: 1 for a number, 2 for a list of numbers."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            part
            for whole in level
            if isinstance(whole, (dict, list))
            for part in (whole.values() if isinstance(whole, dict) else whole)
        ]
    return depth
