"""A card of a report's page: a question, with its plot and its table."""

_LEGEND = {"charged": "charged", "estimated": "estimated", "listed": "provider's list cost"}
_SWATCHES = {
    "listed": '<path class="listed" d="M0 7H14"/>',
    **{
        kind: f'<rect class="{kind}" x="1" y="1" width="12" height="12"/>'
        for kind in ("charged", "estimated")
    },
}


def render_card(title: str, about: str, markup: str, *, kind: str = "", with_legend: bool = True) -> str:
    items = "".join(
        f'<li><svg viewBox="0 0 14 14" aria-hidden="true">{_SWATCHES[name]}</svg>{text}</li>'
        for name, text in _LEGEND.items()
    )
    legend = f'<ul class="legend">{items}</ul>\n' if with_legend else ""
    return (
        f'<section class="card{kind}">\n<h2>{title}</h2>\n<p class="about">{about}</p>\n'
        f"{legend}{markup}</section>\n"
    )
